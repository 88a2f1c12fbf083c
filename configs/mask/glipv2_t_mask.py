"""The mask head of GLIPv2-T on COCO, LVIS and PhraseCut, all else frozen (Appendix D.1).

It goes on from the second stage's last checkpoint.
"""

from ..common.data.masks import dataloader
from ..common.recipes.glipv2_t import recipe
from ..common.stages import mask_stage, second_stage

recipe = mask_stage(second_stage(recipe), dataloader)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
