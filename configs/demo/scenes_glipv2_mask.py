"""The demo's last stage: a mask head, all else frozen (docs/glipv2.md).

What is shipped is this model: boxes, masks, answers and captions.
"""

from ..common.recipes.scenes_glipv2 import with_masks

dataloader, inference, lr_multiplier, model, optimizer, train = with_masks()
