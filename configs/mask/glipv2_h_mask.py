"""The mask head of GLIPv2-H: 2 scales, 4 layers, 384 channels; else as GLIPv2-T's (Appendix D.1).

H has one stage of pre-training, whose last checkpoint this goes on from.
"""

from ..common.data.masks import dataloader
from ..common.models.glipv2_mask import LARGE_MASK_HEAD
from ..common.recipes.glipv2_h import recipe
from ..common.stages import mask_stage

recipe = mask_stage(recipe, dataloader, **LARGE_MASK_HEAD)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
