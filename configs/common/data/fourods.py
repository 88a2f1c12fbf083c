"""FourODs of GLIP-L: Objects365, Open Images, Visual Genome without COCO's images, ImageNet boxes.

COCO stays unseen, as in the paper of GLIP (Section 4, FourODs). The weights give about as many
samples of each in an epoch as GLIP's config for GLIP-L says: 2.8, 2.0, 1.2 and 1.3 million.
"""

from .coco import dataloader

dataloader.train.datasets = [
    ["objects365_train", 4.6],  # x 0.61 million images
    ["openimages_train", 1.15],  # x 1.74 million
    ["visual_genome_no_coco_train", 23.0],  # x 0.052 million
    ["imagenet_boxes_train", 2.5],  # x 0.54 million
]
