"""The demo's mask stage: a mask head, all else frozen (docs/glipv2.md)."""

from ..common.models.glipv2_mask import add_mask_head
from .scenes_glipv2_stage2 import dataloader, inference, lr_multiplier, model, optimizer, train

add_mask_head(model, channels=128, canonical_box_size=64)
model.mask_head.regions_per_image = 16  # measured: 64 take three times as long
train.trained_parts = ["mask_head"]
# What it taught is in the weights; the file that is shipped does without it.
model.contrast = None

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/scenes_glipv2_mask"
train.max_iter = 600
train.ema.enabled = False
lr_multiplier.warmup_iters = 50
optimizer.lr = 1e-3
dataloader.train.datasets = [["scenes_train", 1.0]]
dataloader.train.mapper.use_masks = True
