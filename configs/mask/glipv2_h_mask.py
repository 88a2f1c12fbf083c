"""The mask head of GLIPv2-H: 2 scales, 4 layers, 384 channels; else as GLIPv2-T's (Appendix D.1).

The paper is silent on normalization. Without it a head of this depth starts at a loss of hundreds.
H has one stage of pre-training, whose last checkpoint this goes on from.
"""

from ..common.data.masks import dataloader
from ..common.recipes.glipv2_h import recipe
from ..common.stages import mask_stage

recipe = mask_stage(recipe, dataloader, channels=384, num_scales=2, num_layers=4, norm="GN")
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
