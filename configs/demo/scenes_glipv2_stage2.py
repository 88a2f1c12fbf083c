"""The demo's GLIPv2, second stage: without masked words, mostly on lists of names (docs/glipv2.md).

As GLIPv2-T's (Appendix D.1: "to optimize the results for object detection"). It goes on from the
first stage's last checkpoint.
"""

from ..common.recipes.scenes_glipv2 import recipe
from ..common.stages import second_stage

dataloader, inference, lr_multiplier, model, optimizer, train = second_stage(recipe)
train.max_iter = 1500
dataloader.train.datasets = [["scenes_train", 1.0], ["scenes_train_grounding", 0.4]]
