"""The mix of GLIP-T and GLIPv2-T: Objects365, GoldG without COCO, Cap4M (paper, Table 8)."""

from .cap4m import dataloader as _cap4m
from .goldg import dataloader as _goldg
from .objects365 import dataloader

dataloader.train.datasets = [
    ["objects365_train", 1.0],
    *_goldg.train.datasets,
    *_cap4m.train.datasets,
]
