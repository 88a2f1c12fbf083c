"""The demo's last stage: a mask head, all else frozen (docs/glipv2.md).

What is shipped is this model: boxes, masks, answers and captions.
"""

from ..common.recipes.scenes_glipv2 import with_answers_and_captions
from ..common.stages import mask_stage

recipe = with_answers_and_captions()
recipe = mask_stage(recipe, recipe.dataloader, channels=128, canonical_box_size=64, max_iter=600)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
model.mask_head.regions_per_image = 16  # measured: 64 take three times as long
train.ema.enabled = False
lr_multiplier.warmup_iters = 50
optimizer.lr = 1e-3
dataloader.train.total_batch_size = 8
dataloader.train.datasets = [["scenes_train", 1.0]]
dataloader.train.mapper.use_masks = True
