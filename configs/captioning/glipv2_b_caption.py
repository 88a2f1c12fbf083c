"""GLIPv2-B on COCO's captions, Karpathy's split (Section 3.3, Appendix D.2).

It goes on from the first stage's last checkpoint.
"""

from ..common.data.coco_caption import dataloader
from ..common.recipes.glipv2_b import recipe
from ..common.stages import caption_stage

recipe = caption_stage(recipe, dataloader, lr=5e-6)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
