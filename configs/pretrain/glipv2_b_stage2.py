"""GLIPv2-B, second stage: without masked words, on detection and GoldG alone (Section 4.4).

It goes on from the first stage's last checkpoint.
"""

from ..common.recipes.glipv2_b import recipe
from ..common.stages import second_stage

dataloader, inference, lr_multiplier, model, optimizer, train = second_stage(recipe)
train.max_iter = 500_000
