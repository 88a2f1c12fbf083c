"""The mask head of GLIPv2-B on COCO, LVIS and PhraseCut, as that of GLIPv2-T (Appendix D.1)."""

from ..common.data.masks import dataloader
from ..common.recipes.glipv2_b import recipe
from ..common.stages import mask_stage, second_stage

recipe = mask_stage(second_stage(recipe), dataloader)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
