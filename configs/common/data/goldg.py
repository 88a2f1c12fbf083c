"""GoldG: the captions that MDETR made of GQA, Visual Genome and Flickr30k, tested on COCO.

Without COCO's own images, as in GLIP's public recipes and in GLIPv2-T, so that COCO stays unseen.
"""

from .coco import dataloader

dataloader.train.datasets = [
    ["goldg_mixed_no_coco_train", 1.0],
    ["goldg_flickr_train", 1.0],
]
