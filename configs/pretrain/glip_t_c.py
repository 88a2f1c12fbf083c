"""GLIP-T (C): Objects365 and GoldG, with deep fusion."""

from .glip_t_b import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/glip_t_c"
# 30 epochs of Objects365 v1 (609,000 images), the captions of GQA and Visual Genome (621,000,
# without those of COCO's images, on which it is tested) and of Flickr30k (149,000).
train.max_iter = 645_000
dataloader.train.datasets = [
    ["objects365_train", 1.0],
    ["goldg_mixed_no_coco_train", 1.0],
    ["goldg_flickr_train", 1.0],
]
