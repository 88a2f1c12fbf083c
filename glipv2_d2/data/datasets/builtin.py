"""Data sets that Detectron2 does not know, below the folder `DETECTRON2_DATASETS`.

The layout of the disk is described in datasets/README.md. Nothing is read before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta

from ..reader import Reader
from .coco_like import load_coco_style_json
from .objects365 import clean_objects365_name
from .odinw import register_odinw
from .refexp import register_coco_without_refexp
from .register import register_grounding_dataset
from .scenes import register_all_scenes

# data set: (annotations, image folder, options of the reader); {} is the split, train or val.
DETECTION_SETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "objects365": ("objects365/annotations/objects365_{}", "objects365/{}", {}),
    "objects365v2": (
        "objects365v2/annotations/zhiyuan_objv2_{}",
        "objects365v2/{}",
        {"rename": clean_objects365_name, "keep_folders": 1},
    ),
    "openimages": ("openimages/annotations/openimages_{}", "openimages/{}", {}),
    "visual_genome": ("visual_genome/annotations/visual_genome_{}", "visual_genome", {}),
    # Half of Visual Genome's images are COCO's: for tests on COCO without having seen them.
    "visual_genome_no_coco": (
        "visual_genome/annotations/visual_genome_no_coco_{}", "visual_genome", {}
    ),
    "imagenet_boxes": ("imagenet_boxes/annotations/imagenet_boxes_{}", "imagenet_boxes/{}", {}),
}  # fmt: skip

_MDETR = "mdetr_annotations/"
_FLICKR = "flickr30k/flickr30k_images/"
_COCO_2014 = "coco/train2014"
_GQA = "gqa/images"

# name: (annotation file, image folder or folders by data_source, format); MDETR's file names.
GROUNDING_SPLITS: dict[str, tuple[str, str | dict[str, str], str]] = {
    "goldg_mixed_train": (
        _MDETR + "final_mixed_train.json", {"coco": _COCO_2014, "vg": _GQA}, "mdetr"
    ),
    # GLIP's own cut of it, for tests on COCO without having seen its images.
    "goldg_mixed_no_coco_train": (
        _MDETR + "final_mixed_train_no_coco.json", {"vg": _GQA}, "mdetr"
    ),
    "goldg_flickr_train": (
        _MDETR + "final_flickr_separateGT_train.json", _FLICKR + "train", "mdetr"
    ),
    "cap4m_train": ("cap4m/cap4m_train.yaml", "cap4m", "glip_tsv"),
    "cc15m_sbu_train": ("cc15m_sbu/*.tar", "cc15m_sbu", "webdataset"),
}  # fmt: skip

# MDETR's referring expressions: data set -> splits. One phrase: the whole caption.
REFCOCO_SPLITS = {
    "refcoco": ("train", "val", "testA", "testB"),
    "refcoco+": ("train", "val", "testA", "testB"),
    "refcocog": ("train", "val", "test"),
}

# VQAv2: split -> (its name in the file names, folder of the images, whether it has answers, options
# of the reader).
VQAV2_SPLITS: dict[str, tuple[str, str, bool, dict[str, Any]]] = {
    "train": ("train2014", "train2014", True, {}),
    "val": ("val2014", "val2014", True, {}),
    "dev": ("val2014", "val2014", True, {"development": True}),
    "val_without_dev": ("val2014", "val2014", True, {"development": False}),
    "test-dev": ("test-dev2015", "test2015", False, {}),
    "test": ("test2015", "test2015", False, {}),
}
# COCO's own splits: (caption json, image folder).
COCO_CAPTIONS = {
    "coco_2014_captions_train": ("captions_train2014", "train2014"),
    "coco_2014_captions_val": ("captions_val2014", "val2014"),
    "coco_2014_captions_test": ("image_info_test2014", "test2014"),
    "coco_2017_captions_train": ("captions_train2017", "train2017"),
    "coco_2017_captions_val": ("captions_val2017", "val2017"),
}
# Karpathy's: data set -> (json, image folder); split -> splits of the file.
KARPATHY = {
    "coco_karpathy": ("karpathy/dataset_coco.json", "coco"),
    "flickr30k_karpathy": ("karpathy/dataset_flickr30k.json", "flickr30k/flickr30k_images"),
}
KARPATHY_SPLITS = {"train": ["train", "restval"], "val": ["val"], "test": ["test"]}


def register_all(root: str | None = None) -> None:
    """Register every split that is not registered yet; nothing is read before it is used.

    Args:
        root: the folder of the data sets; `DETECTRON2_DATASETS` or `datasets` by default.
    """
    root = os.path.expanduser(root or os.getenv("DETECTRON2_DATASETS") or "datasets")
    for data, (json_file, images, options) in DETECTION_SETS.items():
        for split in ("train", "val"):
            word = "validation" if (data, split) == ("openimages", "val") else split
            file, folder = (os.path.join(root, path.format(word)) for path in (json_file, images))
            name = f"{data}_{split}"
            reader = Reader(load_coco_style_json, f"{file}.json", folder, name, **options)
            reader.register(evaluator_type="coco")
    if "lvis_v1_minival" not in DatasetCatalog:
        register_lvis_instances(
            "lvis_v1_minival",
            get_lvis_instances_meta("lvis_v1"),
            os.path.join(root, "lvis/lvis_v1_minival.json"),
            os.path.join(root, "coco/"),
        )
    for name, json_file, folders, options in _grounding_splits(root):
        if name not in DatasetCatalog:
            if isinstance(folders, dict):
                folders = {origin: os.path.join(root, path) for origin, path in folders.items()}
            else:
                folders = os.path.join(root, folders)
            register_grounding_dataset(name, os.path.join(root, json_file), folders, **options)
    register_coco_without_refexp(root, REFCOCO_SPLITS)
    register_odinw(root)
    register_all_scenes(root)


def _grounding_splits(root: str) -> Iterator[tuple[str, str, str | dict[str, str], dict[str, Any]]]:
    """(name, annotation file, images, options of `register_grounding_dataset`)."""
    for name, (json_file, images, format) in GROUNDING_SPLITS.items():
        yield name, json_file, images, {"format": format}
    # Flickr30k Entities: a phrase has all its boxes ("any") or their common hull ("merged").
    entities = os.path.join(root, "flickr30k/Flickr30kEntities")
    for kind, boxes in (("separate", "any"), ("merged", "merged")):
        for split in ("val", "test"):
            json_file = f"{_MDETR}final_flickr_{kind}GT_{split}.json"
            options = {"flickr_boxes": boxes, "entities_dir": entities}
            options["evaluator_type"] = "flickr30k"
            yield f"flickr30k_{kind}_{split}", json_file, _FLICKR + split, options
    # Grounded captioning: the reference captions read word by word, or captions to be written.
    as_captions: dict[str, Any] = {"reader_options": {"task": "caption"}}
    flickr30k = {"evaluator_type": "flickr30k", "entities_dir": entities}
    by_image = {"format": "mdetr_images", "evaluator_type": "grounded_caption"}
    for split in ("train", "val", "test"):
        json_file, images = f"{_MDETR}final_flickr_separateGT_{split}.json", _FLICKR + split
        metadata = as_captions if split == "train" else {**as_captions, **flickr30k}
        yield f"flickr30k_caption_{split}", json_file, images, metadata
        if split != "train":
            yield f"flickr30k_grounded_caption_{split}", json_file, images, by_image
    whole: dict[str, Any] = {"reader_options": {"whole_caption": True}}
    for data, splits in REFCOCO_SPLITS.items():
        for split in splits:
            json_file = f"{_MDETR}finetune_{data}_{split}.json"
            yield f"{data}_{split}", json_file, _COCO_2014, {"evaluator_type": "refexp", **whole}
    for split in ("train", "val", "test"):
        # The authors' own file has all polygons of an instance, MDETR's one of each.
        masks = {"refer_json": os.path.join(root, f"phrasecut/refer_{split}.json")}
        json_file = f"{_MDETR}finetune_phrasecut_{split}.json"
        options = {"evaluator_type": "phrasecut", **masks, **whole}
        yield f"phrasecut_{split}", json_file, _GQA, options
    yield from _question_splits(root)
    yield from _caption_splits()


def _question_splits(root: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """As `_grounding_splits`, of the data sets that a VQA head learns."""
    for split, (file, images, has_answers, reader_options) in VQAV2_SPLITS.items():
        reader_options = {**reader_options, "image_pattern": f"COCO_{images}_{{image_id:012d}}.jpg"}
        if has_answers:
            annotations = os.path.join(root, f"vqav2/v2_mscoco_{file}_annotations.json")
            reader_options["annotations"] = annotations
        json_file = f"vqav2/v2_OpenEnded_mscoco_{file}_questions.json"
        options = {"format": "vqa", "evaluator_type": "vqa", "reader_options": reader_options}
        yield f"vqav2_{split}", json_file, f"coco/{images}", options
    # With the boxes of `glip label vqav2_<split> --output vqav2/grounded_<split>.json`.
    for split in ("train", "val_without_dev", "dev"):
        images = VQAV2_SPLITS[split][1]
        options = {"format": "mdetr", "evaluator_type": "vqa"}
        yield f"vqav2_grounded_{split}", f"vqav2/grounded_{split}.json", f"coco/{images}", options
    # The server wants the answers to all questions of val, testdev, test and challenge in one file.
    gqa = {split: f"{split}_balanced" for split in ("train", "val", "testdev")}
    for split, file in (gqa | {"submission": "submission_all"}).items():
        options = {"format": "gqa", "evaluator_type": "vqa"}
        options["answer_fields"] = ("questionId", "prediction")
        yield f"gqa_{split}", f"gqa/questions/{file}_questions.json", _GQA, options
    for split in ("train", "dev", "test"):
        options = {"format": "snli_ve", "evaluator_type": "vqa"}
        json_file = f"snli_ve/snli_ve_{split}.jsonl"
        yield f"snli_ve_{split}", json_file, _FLICKR.rstrip("/"), options


def _caption_splits() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """As `_grounding_splits`: captions without boxes, to be learned or, in tests, to be written."""
    to_learn: dict[str, Any] = {"reader_options": {}}
    to_write: dict[str, Any] = {"evaluator_type": "caption", "reader_options": {"to_write": True}}
    for name, (file, images) in COCO_CAPTIONS.items():
        options = to_learn if name.endswith("train") else to_write
        json_file = f"coco/annotations/{file}.json"
        yield name, json_file, f"coco/{images}", {"format": "coco_captions", **options}
    for data, (json_file, images) in KARPATHY.items():
        for split, of in KARPATHY_SPLITS.items():
            options = to_learn if split == "train" else to_write
            reader_options = {**options["reader_options"], "splits": of}
            options = {**options, "format": "karpathy", "reader_options": reader_options}
            yield f"{data}_{split}", json_file, images, options
