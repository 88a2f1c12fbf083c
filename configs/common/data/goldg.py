"""GoldG: the captions that MDETR made of GQA, Visual Genome and Flickr30k, tested on COCO."""

from ..mixes import GOLDG
from .coco import dataloader

dataloader.train.datasets = GOLDG
