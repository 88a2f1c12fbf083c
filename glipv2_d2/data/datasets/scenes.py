"""Registration of the rendered "scenes": eight shapes in eight colors, a class for each pair.

`scenes_train` (COCO detection, 52 classes), `scenes_train_grounding` (captions), `scenes_val` (64
names asked, the 52 base classes occur), `scenes_val_grounding` and `scenes_novel` (64 names asked;
evaluated on the 12 pairs that training never shows). Of each split there are questions
(`scenes_{split}_vqa`, with boxes `scenes_{split}_vqa_grounding`) and captions
(`scenes_{split}_caption`, with boxes `scenes_{split}_caption_grounding`), which in tests are to be
written; `scenes_{val,novel}_grounded_caption` compares their boxes, too.
`scenes_{val,novel}_absent` ask each image for its names and as many that are not in it. For the
transfer to classes that a model does not know there are `scenes_{train,val}_old`, in which nothing
is pink or a moon (40 classes; captions: `scenes_train_old_grounding`), and
`scenes_{train,val}_new`, of which only such things are annotated (12 classes);
`scenes_train_choose` is a further part of the training images, to choose a model by.
`datasets/prepare_scenes.py` renders them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ...errors import DataError
from ..reader import Reader
from ..report import Report
from .absent_names import load_absent_names
from .coco_captions import load_coco_captions
from .coco_like import load_coco_style_json
from .mdetr import load_mdetr_images, load_mdetr_json
from .vqa import load_vqa_json

COLORS = ("red", "yellow", "green", "blue", "purple", "pink", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
# (color, shape) pairs that occur in `novel` only. Balanced: each color and each shape loses one
# or two partners, so that every word is learned with at least six.
HELD_OUT_PAIRS = (
    ("red", "circle"),
    ("yellow", "square"),
    ("green", "triangle"),
    ("blue", "star"),
    ("purple", "heart"),
    ("pink", "cross"),
    ("white", "ring"),
    ("black", "moon"),
    ("red", "cross"),
    ("green", "moon"),
    ("purple", "square"),
    ("white", "star"),
)
ALL_PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
BASE_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS)
# A pair has the same category id in every file; a class is called "red star".
CATEGORY_IDS = {pair: index for index, pair in enumerate(ALL_PAIRS, start=1)}
ALL_CLASSES = tuple(map(" ".join, ALL_PAIRS))
BASE_CLASSES = tuple(map(" ".join, BASE_PAIRS))
NOVEL_CLASSES = tuple(" ".join(pair) for pair in ALL_PAIRS if pair in HELD_OUT_PAIRS)
# A model that is pre-trained without one color and one shape is adapted to them (docs/transfer.md).
NEW_PAIRS = tuple(pair for pair in BASE_PAIRS if "pink" in pair or "moon" in pair)
OLD_PAIRS = tuple(pair for pair in BASE_PAIRS if pair not in NEW_PAIRS)
NEW_CLASSES, OLD_CLASSES = (tuple(map(" ".join, pairs)) for pairs in (NEW_PAIRS, OLD_PAIRS))
# What a question about a scene can be answered with (scenes/questions.py).
SCENES_ANSWERS = (
    *COLORS,
    *SHAPES,
    *("0", "1", "2", "3", "4", "yes", "no"),
    *("left", "right", "above", "below"),
)
# Pairs that are asked about; every one that is in a split's pictures is among them.
PAIRS_OF_SPLIT = {"train": BASE_PAIRS, "val": BASE_PAIRS, "novel": ALL_PAIRS}

# split: (pairs in the file, classes that the evaluation averages over)
_DETECTION = {
    "train": (BASE_PAIRS, BASE_CLASSES),
    "val": (ALL_PAIRS, BASE_CLASSES),
    "novel": (ALL_PAIRS, NOVEL_CLASSES),
    "train_old": (OLD_PAIRS, OLD_CLASSES),
    "val_old": (OLD_PAIRS, OLD_CLASSES),
    "train_new": (NEW_PAIRS, NEW_CLASSES),
    "val_new": (NEW_PAIRS, NEW_CLASSES),
    "train_choose": (NEW_PAIRS, NEW_CLASSES),
}


def register_all_scenes(root: str) -> None:
    """Register every scenes split that is not registered yet; nothing is read before it is used.

    Args:
        root: the folder of the data sets, which holds `scenes/`.
    """
    folder = os.path.join(root, "scenes")
    for split, (pairs, evaluated) in _DETECTION.items():
        metadata = {
            "thing_classes": list(map(" ".join, pairs)),
            "thing_dataset_id_to_contiguous_id": {CATEGORY_IDS[p]: i for i, p in enumerate(pairs)},
            "evaluated_classes": list(evaluated),
        }
        reader = _reader(load_coco_style_json, folder, split, split)
        reader.register(evaluator_type="coco", **metadata)
    for name, load, file, evaluator_type, options in _texts(os.path.join(folder, "annotations")):
        _reader(load, folder, file, name, **options).register(evaluator_type=evaluator_type)


def _texts(annotations: str) -> Iterator[tuple[str, Callable[..., list], str, str, dict[str, Any]]]:
    """(name, reader, file, evaluator type, options of the reader) of captions and questions."""
    for split in ("train", "val", "train_old"):
        yield f"{split}_grounding", load_mdetr_json, f"{split}_grounding", "grounding", {}
    for split in PAIRS_OF_SPLIT:
        answers = {"annotations": os.path.join(annotations, f"{split}_vqa.json")}
        yield f"{split}_vqa", load_vqa_json, f"{split}_questions", "vqa", answers
        yield f"{split}_vqa_grounding", load_mdetr_json, f"{split}_vqa_grounding", "vqa", {}
        # Captions are learned word by word, and in tests written, or read for their boxes.
        written = {"to_write": True} if split != "train" else {}
        yield f"{split}_caption", load_coco_captions, f"{split}_captions", "caption", written
        grounded = f"{split}_caption_grounding"
        yield grounded, load_mdetr_json, grounded, "flickr30k", {}
        if split != "train":
            name = f"{split}_grounded_caption"
            yield name, load_mdetr_images, grounded, "grounded_caption", {}
            yield f"{split}_absent", load_absent_names, split, "gated_f1", {}


def _reader(
    load: Callable[..., list], folder: str, file: str, split: str, **options: Any
) -> Reader:
    json_file = os.path.join(folder, "annotations", f"{file}.json")
    return Reader(partial(_load_rendered, load), json_file, folder, f"scenes_{split}", **options)


def _load_rendered(
    load: Callable[..., list],
    json_file: str,
    folder: str,
    name: str,
    *,
    report: Report,
    **options: Any,
) -> list:
    # prepare_scenes.py writes an annotation file after all the pictures that it names.
    if not os.path.isfile(json_file):
        raise DataError(
            f"the scenes data set is not in {folder!r} (no {os.path.basename(json_file)}): render "
            f"it with `python datasets/prepare_scenes.py --output {folder}`, or set "
            "DETECTRON2_DATASETS to the folder that holds it"
        )
    return load(json_file, folder, name, report=report, **options)
