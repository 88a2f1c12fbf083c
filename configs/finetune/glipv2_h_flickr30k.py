"""GLIPv2-H fine-tuned on Flickr30k Entities.

It goes on from the last checkpoint of pretrain/glipv2_h.py. Epochs and rate are chosen: those of
PhraseCut (Appendix D.2).
"""

from ..common.data.flickr30k import dataloader
from ..common.mixes import FLICKR30K_CAPTIONS
from ..common.recipes.glipv2_h import recipe
from ..common.stages import finetune_stage

recipe = finetune_stage(
    recipe, dataloader, "flickr30k", samples=FLICKR30K_CAPTIONS, epochs=3, lr=5e-6
)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
