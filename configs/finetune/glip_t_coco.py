"""GLIP-T fine-tuned on COCO by the authors' command (README of microsoft/GLIP): 24 epochs at 1e-5.

It goes on from the last checkpoint of pretrain/glip_t.py, or from the authors' weights:
train.init_checkpoint=glip_tiny_model_o365_goldg_cc_sbu.pth.
"""

from ..common.data.coco import dataloader
from ..common.mixes import COCO_IMAGES
from ..common.models.glip_swin_t import model
from ..common.pretraining import inference, lr_multiplier, optimizer, train
from ..common.stages import Recipe, finetune_stage

train.output_dir = "./output/glip_t"
recipe = Recipe(dataloader, inference, lr_multiplier, model, optimizer, train)
recipe = finetune_stage(recipe, dataloader, "coco", samples=COCO_IMAGES, epochs=24, lr=1e-5)
