"""GLIP-T (A): 30 epochs of Objects365 v1 (609,000 images) in batches of 64."""

from ..data.objects365 import dataloader
from ..models.glip_swin_t_a import model
from ..pretraining import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_t_a"
train.max_iter = 285_000
dataloader.train.total_batch_size = 64
