"""GLIPv2-T answers questions of VQAv2 and grounds what they name and, by [MASK], the answer.

The boxes are those of a trained GLIP on question and answer (Section 3.3, Appendix D.2):
`glip label vqav2_train --output datasets/vqav2/grounded_train.json`, and so for the other splits.
"""

from ..common.data.vqav2 import dataloader
from ..common.recipes.glipv2_t import recipe
from ..common.stages import vqa_stage

dataloader.train.datasets = ["vqav2_grounded_train", "vqav2_grounded_val_without_dev"]
dataloader.test.dataset = "vqav2_grounded_dev"
recipe = vqa_stage(recipe, dataloader, "grounded_vqa")
recipe.model.vqa_head.ground_answer = True
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
