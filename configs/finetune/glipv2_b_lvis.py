"""GLIPv2-B fine-tuned on LVIS's boxes.

It goes on from the last checkpoint of pretrain/glipv2_b_stage2.py. Epochs and rate are chosen:
those of the masks of LVIS (Appendix D.2).
"""

from ..common.data.lvis import dataloader
from ..common.mixes import LVIS_IMAGES
from ..common.recipes.glipv2_b import recipe
from ..common.stages import finetune_stage, second_stage

recipe = finetune_stage(
    second_stage(recipe), dataloader, "lvis", samples=LVIS_IMAGES, epochs=5, lr=5e-6
)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
