"""GLIPv2-T fine-tuned on LVIS's masks: 24 epochs at 1e-5 (Appendix D.2).

It goes on from the last checkpoint of mask/glipv2_t_mask.py.
"""

from ..common.data.lvis import dataloader
from ..common.mixes import LVIS_IMAGES
from ..common.recipes.glipv2_t import recipe
from ..common.stages import finetune_stage, mask_stage, second_stage

recipe = mask_stage(second_stage(recipe), dataloader)
recipe = finetune_stage(recipe, dataloader, "lvis", samples=LVIS_IMAGES, epochs=24, lr=1e-5)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
