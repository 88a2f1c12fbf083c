"""GLIPv2-T fine-tuned on COCO's boxes: 24 epochs at 1e-5 (Appendix D.2).

It goes on from the last checkpoint of pretrain/glipv2_t_stage2.py.
"""

from ..common.data.coco import dataloader
from ..common.mixes import COCO_IMAGES
from ..common.recipes.glipv2_t import recipe
from ..common.stages import finetune_stage, second_stage

recipe = finetune_stage(
    second_stage(recipe), dataloader, "coco", samples=COCO_IMAGES, epochs=24, lr=1e-5
)
dataloader, inference, lr_multiplier, model, optimizer, train = recipe
