"""Data sets that Detectron2 does not know, below the folder ``DETECTRON2_DATASETS``."""

from __future__ import annotations

import os

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from glipv2_d2.data.datasets.register import register_grounding_dataset

# name: (annotation file, image folder or folders by data_source); the layout of the disk is
# described in datasets/README.md. The file names are those of MDETR's release.
GROUNDING_SPLITS = {
    "goldg_mixed_train": (
        "mdetr_annotations/final_mixed_train.json",
        {"coco": "coco/train2014", "vg": "gqa/images"},
    ),
    "goldg_flickr_train": (
        "mdetr_annotations/final_flickr_separateGT_train.json",
        "flickr30k/flickr30k_images/train",
    ),
    "flickr30k_separate_val": (
        "mdetr_annotations/final_flickr_separateGT_val.json",
        "flickr30k/flickr30k_images/val",
    ),
    "flickr30k_separate_test": (
        "mdetr_annotations/final_flickr_separateGT_test.json",
        "flickr30k/flickr30k_images/test",
    ),
    "flickr30k_merged_val": (
        "mdetr_annotations/final_flickr_mergedGT_val.json",
        "flickr30k/flickr30k_images/val",
    ),
    "flickr30k_merged_test": (
        "mdetr_annotations/final_flickr_mergedGT_test.json",
        "flickr30k/flickr30k_images/test",
    ),
}

# name: (COCO json, image folder)
DETECTION_SPLITS = {
    "objects365_train": ("objects365/annotations/objects365_train.json", "objects365/train"),
    "objects365_val": ("objects365/annotations/objects365_val.json", "objects365/val"),
}


def register_all(root: str | None = None) -> None:
    """Register every split that is not registered yet; nothing is read before it is used.

    Args:
        root: the folder of the data sets; ``DETECTRON2_DATASETS`` or ``datasets`` by default.
    """
    root = os.path.expanduser(root or os.getenv("DETECTRON2_DATASETS", "datasets"))
    known = set(DatasetCatalog.list())
    for name, (json_file, images) in DETECTION_SPLITS.items():
        if name not in known:
            register_coco_instances(
                name, {}, os.path.join(root, json_file), os.path.join(root, images)
            )
    for name, (json_file, images) in GROUNDING_SPLITS.items():
        if name in known:
            continue
        if isinstance(images, dict):
            folders = {origin: os.path.join(root, folder) for origin, folder in images.items()}
        else:
            folders = os.path.join(root, images)
        register_grounding_dataset(name, os.path.join(root, json_file), folders)
