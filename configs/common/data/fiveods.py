"""FiveODs of GLIPv2-B and -H: FourODs and COCO, and so Visual Genome with COCO's images.

How often COCO is seen is not in the paper; the name of the authors' file says eight copies.
"""

from .fourods import dataloader

dataloader.train.datasets = [
    *(entry for entry in dataloader.train.datasets if entry[0] != "visual_genome_no_coco_train"),
    ["visual_genome_train", 12.0],  # x 0.1 million
    ["coco_2017_train", 8.0],
]
