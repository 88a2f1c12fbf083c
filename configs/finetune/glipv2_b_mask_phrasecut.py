"""GLIPv2-B fine-tuned on PhraseCut's masks: 3 epochs at 5e-6 (Appendix D.2).

It goes on from the last checkpoint of mask/glipv2_b_mask.py.
"""

from ..common.data.phrasecut import dataloader
from ..common.mixes import PHRASECUT_PHRASES
from ..common.recipes.glipv2_b import recipe
from ..common.stages import finetune_stage, mask_stage, second_stage

recipe = mask_stage(second_stage(recipe), dataloader)
recipe = finetune_stage(
    recipe, dataloader, "phrasecut", samples=PHRASECUT_PHRASES, epochs=3, lr=5e-6
)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
