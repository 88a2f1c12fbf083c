"""The mix of GLIP-T and GLIPv2-T: Objects365, GoldG without COCO, Cap4M (paper, Table 8)."""

from ..mixes import CAP4M, GOLDG, OBJECTS365
from .coco import dataloader

dataloader.train.datasets = [*OBJECTS365, *GOLDG, *CAP4M]
