"""GLIP-L: Swin-L, eight blocks.

The paper trains it on FourODs, GoldG and Cap24M; the data sets of those that this project registers
are listed here with the official number of copies.
"""

from ..common.models.glip_swin_l import model
from .glip_t_c import dataloader, inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_l"
train.max_iter = 1_000_000
optimizer.weight_decay = 0.01
dataloader.train.datasets = [
    ["objects365_train", 2.0],
    ["goldg_mixed_train", 4.0],
    ["goldg_flickr_train", 8.0],
]
