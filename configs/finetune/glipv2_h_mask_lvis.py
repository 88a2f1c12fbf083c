"""GLIPv2-H fine-tuned on LVIS's masks: 5 epochs at 5e-6 (Appendix D.2).

It goes on from the last checkpoint of mask/glipv2_h_mask.py.
"""

from ..common.data.lvis import dataloader
from ..common.mixes import LVIS_IMAGES
from ..common.models.glipv2_mask import LARGE_MASK_HEAD
from ..common.recipes.glipv2_h import recipe
from ..common.stages import finetune_stage, mask_stage

recipe = mask_stage(recipe, dataloader, **LARGE_MASK_HEAD)
recipe = finetune_stage(recipe, dataloader, "lvis", samples=LVIS_IMAGES, epochs=5, lr=5e-6)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
