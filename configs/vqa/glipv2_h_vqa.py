"""GLIPv2-H on VQAv2: train2014 and val2014 less the development split (Section 4, Appendix D.2).

It goes on from the pre-training's last checkpoint. The list of answers is written by
datasets/prepare_vqa_answers.py; any other: `model.vqa_head.answers=FILE`.
"""

from ..common.data.vqav2 import dataloader
from ..common.recipes.glipv2_h import recipe
from ..common.stages import vqa_stage

recipe = vqa_stage(recipe, dataloader, lr=5e-6)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
