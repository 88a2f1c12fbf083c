"""The demo's GLIP taken further as a GLIPv2: contrastive loss and masked words (docs/glipv2.md).

It goes on from the shipped GLIP; train.init_checkpoint="" starts from scratch.
"""

from ..common.recipes.scenes_glipv2 import recipe

dataloader, inference, lr_multiplier, model, optimizer, train = recipe
