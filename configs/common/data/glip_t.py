"""The mix of GLIP-T (C): Objects365 and GoldG without COCO."""

from ..mixes import GOLDG, OBJECTS365
from .coco import dataloader

dataloader.train.datasets = [*OBJECTS365, *GOLDG]
