"""The demo's GLIPv2, third stage: it learns to answer and to caption (docs/vl_understanding.md).

It goes on from the second stage's last checkpoint; train.init_checkpoint="" starts from scratch.
"""

from ..common.recipes.scenes_glipv2 import with_answers_and_captions

recipe = with_answers_and_captions()
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
