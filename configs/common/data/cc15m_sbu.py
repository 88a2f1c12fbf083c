"""CC15M + SBU: Conceptual Captions (3M and 12M) and SBU with pseudo boxes, in tar shards.

`glip label --format webdataset` makes such shards (docs/self_training.md).
"""

from ..mixes import CC15M_SBU
from .coco import dataloader

dataloader.train.datasets = CC15M_SBU
