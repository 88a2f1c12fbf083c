"""GLIP-T (B): Objects365 only, with deep fusion."""

from ..common.models.glip_swin_t import model
from ..common.recipes.glip_t_a import dataloader, inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_t_b"
