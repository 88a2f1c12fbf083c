"""Data sets that Detectron2 does not know, below the folder `DETECTRON2_DATASETS`.

The layout of the disk is described in datasets/README.md. Nothing is read before it is used.
"""

from __future__ import annotations

import os

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta

from .coco_like import register_coco_style
from .objects365 import clean_objects365_name
from .odinw import register_odinw
from .refexp import register_coco_without_refexp
from .register import register_grounding_dataset
from .scenes import register_all_scenes

# name: (COCO json, image folder, options of the reader)
_OBJECTS365_V2 = {"rename": clean_objects365_name, "keep_folders": 1}
DETECTION_SPLITS = {
    "objects365_train": ("objects365/annotations/objects365_train.json", "objects365/train", {}),
    "objects365_val": ("objects365/annotations/objects365_val.json", "objects365/val", {}),
    "objects365v2_train": (
        "objects365v2/annotations/zhiyuan_objv2_train.json",
        "objects365v2/train",
        _OBJECTS365_V2,
    ),
    "objects365v2_val": (
        "objects365v2/annotations/zhiyuan_objv2_val.json",
        "objects365v2/val",
        _OBJECTS365_V2,
    ),
    "openimages_train": (
        "openimages/annotations/openimages_train.json",
        "openimages/train",
        {},
    ),
    "openimages_val": (
        "openimages/annotations/openimages_validation.json",
        "openimages/validation",
        {},
    ),
    "visual_genome_train": (
        "visual_genome/annotations/visual_genome_train.json",
        "visual_genome",
        {},
    ),
    "visual_genome_val": (
        "visual_genome/annotations/visual_genome_val.json",
        "visual_genome",
        {},
    ),
    # Half of Visual Genome's images are COCO's: for tests on COCO without having seen them.
    "visual_genome_no_coco_train": (
        "visual_genome/annotations/visual_genome_no_coco_train.json",
        "visual_genome",
        {},
    ),
    "visual_genome_no_coco_val": (
        "visual_genome/annotations/visual_genome_no_coco_val.json",
        "visual_genome",
        {},
    ),
    "imagenet_boxes_train": (
        "imagenet_boxes/annotations/imagenet_boxes_train.json",
        "imagenet_boxes/train",
        {},
    ),
    "imagenet_boxes_val": (
        "imagenet_boxes/annotations/imagenet_boxes_val.json",
        "imagenet_boxes/val",
        {},
    ),
}

_MDETR = "mdetr_annotations/"
_FLICKR = "flickr30k/flickr30k_images/"
_ENTITIES = "flickr30k/Flickr30kEntities"
_PHRASECUT = "phrasecut/refer_{}.json"
_COCO_2014 = "coco/train2014"
_GQA = "gqa/images"

# name: (annotation file, image folder or folders by data_source, format); MDETR's file names.
GROUNDING_SPLITS = {
    "goldg_mixed_train": (
        _MDETR + "final_mixed_train.json",
        {"coco": _COCO_2014, "vg": _GQA},
        "mdetr",
    ),
    # GLIP's own cut of it, for tests on COCO without having seen its images.
    "goldg_mixed_no_coco_train": (
        _MDETR + "final_mixed_train_no_coco.json",
        {"vg": _GQA},
        "mdetr",
    ),
    "goldg_flickr_train": (
        _MDETR + "final_flickr_separateGT_train.json",
        _FLICKR + "train",
        "mdetr",
    ),
    "cap4m_train": ("cap4m/cap4m_train.yaml", "cap4m", "glip_tsv"),
    "cc15m_sbu_train": ("cc15m_sbu/*.tar", "cc15m_sbu", "webdataset"),
}

# MDETR's referring expressions: data set -> splits. One phrase: the whole caption.
REFCOCO_SPLITS = {
    "refcoco": ("train", "val", "testA", "testB"),
    "refcoco+": ("train", "val", "testA", "testB"),
    "refcocog": ("train", "val", "test"),
}
PHRASECUT_SPLITS = ("train", "val", "test")


def register_all(root: str | None = None) -> None:
    """Register every split that is not registered yet; nothing is read before it is used.

    Args:
        root: the folder of the data sets; `DETECTRON2_DATASETS` or `datasets` by default.
    """
    root = os.path.expanduser(root or os.getenv("DETECTRON2_DATASETS", "datasets"))
    known = set(DatasetCatalog.list())
    for name, (json_file, images, options) in DETECTION_SPLITS.items():
        if name not in known:
            json_file, images = os.path.join(root, json_file), os.path.join(root, images)
            register_coco_style(name, json_file, images, **options)
    if "lvis_v1_minival" not in known:
        register_lvis_instances(
            "lvis_v1_minival",
            get_lvis_instances_meta("lvis_v1"),
            os.path.join(root, "lvis/lvis_v1_minival.json"),
            os.path.join(root, "coco/"),
        )
    for name, (json_file, images, format) in GROUNDING_SPLITS.items():
        if name not in known:
            _grounding(root, name, json_file, images, format)
    _register_flickr(root, known)
    _register_refexp(root, known)
    if "coco_2017_train_without_refexp" not in known:
        register_coco_without_refexp(root, REFCOCO_SPLITS)
    register_odinw(root)
    register_all_scenes(root)


def _grounding(root, name, json_file, images, format="mdetr", **options) -> None:
    if isinstance(images, dict):
        folders = {origin: os.path.join(root, folder) for origin, folder in images.items()}
    else:
        folders = os.path.join(root, images)
    register_grounding_dataset(name, os.path.join(root, json_file), folders, format, **options)


def _register_flickr(root: str, known: set[str]) -> None:
    """Flickr30k Entities: a phrase has all its boxes ("any") or their common hull ("merged")."""
    for kind, boxes in (("separate", "any"), ("merged", "merged")):
        for split in ("val", "test"):
            name = f"flickr30k_{kind}_{split}"
            if name in known:
                continue
            _grounding(
                root,
                name,
                f"{_MDETR}final_flickr_{kind}GT_{split}.json",
                _FLICKR + split,
                evaluator_type="flickr30k",
                flickr_boxes=boxes,
                entities_dir=os.path.join(root, _ENTITIES),
            )


def _register_refexp(root: str, known: set[str]) -> None:
    splits = [
        (f"{data}_{split}", f"finetune_{data}_{split}.json", _COCO_2014, {})
        for data, of in REFCOCO_SPLITS.items()
        for split in of
    ]
    splits += [
        (
            f"phrasecut_{split}",
            f"finetune_phrasecut_{split}.json",
            _GQA,
            # The authors' own file has all polygons of an instance, MDETR's one of each.
            {"refer_json": os.path.join(root, _PHRASECUT.format(split))},
        )
        for split in PHRASECUT_SPLITS
    ]
    for name, json_file, images, metadata in splits:
        if name not in known:
            _grounding(
                root,
                name,
                _MDETR + json_file,
                images,
                evaluator_type="phrasecut" if metadata else "refexp",
                reader_options={"whole_caption": True},
                **metadata,
            )
