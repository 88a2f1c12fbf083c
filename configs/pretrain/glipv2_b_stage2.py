"""GLIPv2-B, second stage: without masked words, on detection and GoldG alone (Section 4.4).

It goes on from the first stage's last checkpoint.
"""

from ..common.data.fiveods import dataloader as _fiveods
from .glipv2_b import dataloader, inference, lr_multiplier, model, optimizer, train

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/glipv2_b_stage2"
train.max_iter = 500_000
model.mlm_head = None
dataloader.train.datasets = [
    *_fiveods.train.datasets,
    ["goldg_mixed_train", 4.0],
    ["goldg_flickr_train", 8.0],
]
