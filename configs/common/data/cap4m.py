"""Cap4M: captions of the web with boxes of GLIP-T (C), in GLIP's TSV format.

The authors' files were never published; the recipe is for one's own in their format, which `glip
label --format tsv` writes (docs/self_training.md).
"""

from ..mixes import CAP4M
from .coco import dataloader

dataloader.train.datasets = CAP4M
