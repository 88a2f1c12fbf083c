"""GLIPv2-T fine-tuned on Flickr30k Entities.

It goes on from the last checkpoint of pretrain/glipv2_t_stage2.py. Epochs and rate are chosen:
those of PhraseCut (Appendix D.2).
"""

from ..common.data.flickr30k import dataloader
from ..common.mixes import FLICKR30K_CAPTIONS
from ..common.recipes.glipv2_t import recipe
from ..common.stages import finetune_stage, second_stage

recipe = finetune_stage(
    second_stage(recipe), dataloader, "flickr30k", samples=FLICKR30K_CAPTIONS, epochs=12, lr=1e-5
)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
