"""FiveODs of GLIPv2-B and -H: FourODs and COCO, and so Visual Genome with COCO's images."""

from ..mixes import FIVE_ODS
from .coco import dataloader

dataloader.train.datasets = FIVE_ODS
