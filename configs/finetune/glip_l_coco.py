"""GLIP-L fine-tuned on COCO.

It goes on from the last checkpoint of pretrain/glip_l.py, or from the authors' weights:
train.init_checkpoint=glip_large_model.pth. Their command for the large model was never published.
Chosen: the epochs and the rate that GLIPv2 states for its larger models (Appendix D.2).
"""

from ..common.data.coco import dataloader
from ..common.mixes import COCO_IMAGES
from ..common.recipes.glip_l import inference, lr_multiplier, model, optimizer, train
from ..common.stages import Recipe, finetune_stage

recipe = Recipe(dataloader, inference, lr_multiplier, model, optimizer, train)
recipe = finetune_stage(recipe, dataloader, "coco", samples=COCO_IMAGES, epochs=5, lr=5e-6)
