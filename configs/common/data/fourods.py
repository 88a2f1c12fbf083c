"""FourODs of GLIP-L: Objects365, Open Images, Visual Genome without COCO's images, ImageNet boxes.

COCO stays unseen, as in the paper of GLIP (Section 4, FourODs).
"""

from ..mixes import FOUR_ODS
from .coco import dataloader

dataloader.train.datasets = FOUR_ODS
