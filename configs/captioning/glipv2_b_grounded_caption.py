"""GLIPv2-B writes captions and grounds them (Appendix D.2, Tables 6 and 9).

It goes on from the first stage's last checkpoint. The paper takes Flickr30k for the grounding loss
and reports both data sets of one model; that they are mixed, each caption seen as often, is chosen
here.
"""

from ..common.data.flickr30k_caption import dataloader
from ..common.mixes import GROUNDED_CAPTIONS
from ..common.recipes.glipv2_b import recipe
from ..common.stages import caption_stage

recipe = caption_stage(recipe, dataloader, "grounded_caption", captions=GROUNDED_CAPTIONS, lr=5e-6)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
