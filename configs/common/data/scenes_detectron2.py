"""The masks of "scenes" through Detectron2's own mapper and loader, which know no prompts."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)

from glipv2_d2.data.build import relabel
from glipv2_d2.data.datasets.scenes import ALL_CLASSES

from .scenes import dataloader

dataloader.train = L(build_detection_train_loader)(
    dataset=L(relabel)(
        records=L(get_detection_dataset_dicts)(names="scenes_train", filter_empty=True),
        dataset_name="scenes_train",
        new_classes=list(ALL_CLASSES),
    ),
    mapper=L(DatasetMapper)(
        is_train=True,
        augmentations=[L(T.RandomFlip)(horizontal=True)],
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    ),
    total_batch_size=4,
    num_workers=1,
)
for _test in (dataloader.test, dataloader.further_tests.scenes_novel.test):
    _test.mapper = L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR")
