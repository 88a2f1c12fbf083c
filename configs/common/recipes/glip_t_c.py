"""GLIP-T (C): 30 epochs of Objects365 v1 and GoldG in batches of 64.

609,000 images, the captions of GQA and Visual Genome (621,000, without those of COCO's images, on
which it is tested) and of Flickr30k (149,000).
"""

from ..data.glip_t import dataloader
from ..models.glip_swin_t import model
from ..pretraining import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_t_c"
train.max_iter = 645_000
dataloader.train.total_batch_size = 64
