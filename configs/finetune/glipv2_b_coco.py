"""GLIPv2-B fine-tuned on COCO's boxes: 5 epochs at 5e-6 (Appendix D.2).

It goes on from the last checkpoint of pretrain/glipv2_b_stage2.py.
"""

from ..common.data.coco import dataloader
from ..common.mixes import COCO_IMAGES
from ..common.recipes.glipv2_b import recipe
from ..common.stages import finetune_stage, second_stage

recipe = finetune_stage(
    second_stage(recipe), dataloader, "coco", samples=COCO_IMAGES, epochs=5, lr=5e-6
)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
