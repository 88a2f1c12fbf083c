"""The demo's mask stage: a mask head, all else frozen (docs/glipv2.md)."""

from ..common.recipes.scenes_glipv2 import recipe
from ..common.stages import mask_stage, second_stage

recipe = second_stage(recipe)
recipe = mask_stage(recipe, recipe.dataloader, channels=128, canonical_box_size=64, max_iter=600)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
model.mask_head.regions_per_image = 16  # measured: 64 take three times as long
# What it taught is in the weights; the file that is shipped does without it.
model.contrast = None
train.ema.enabled = False
lr_multiplier.warmup_iters = 50
optimizer.lr = 1e-3
dataloader.train.datasets = [["scenes_train", 1.0]]
dataloader.train.mapper.use_masks = True
