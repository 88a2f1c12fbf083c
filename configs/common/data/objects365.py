"""Objects365 v1 detection, tested on COCO without having seen it (zero-shot), as GLIP does."""

from .coco import dataloader

dataloader.train.datasets = ["objects365_train"]
