"""FiveODs of GLIPv2-B and -H: FourODs and COCO.

How often COCO is seen is not in the paper; the name of the authors' file says eight copies.
"""

from .fourods import dataloader

dataloader.train.datasets = [*dataloader.train.datasets, ["coco_2017_train", 8.0]]
