"""The demo's GLIPv2 with a presence head, all else frozen (docs/open_world_presence.md)."""

from ..common.recipes.scenes_glipv2 import with_masks
from ..common.stages import presence_stage

recipe = presence_stage(with_masks(), max_iter=400)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
dataloader.train.mapper.use_masks = False
