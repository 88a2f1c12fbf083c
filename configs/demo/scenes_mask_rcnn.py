"""GLIP's boxes as proposals of a stock Mask R-CNN head, trained on the masks of "scenes".

The GLIP is the shipped one, frozen; `train.init_checkpoint` is not needed.
"""

from ..common.data.scenes_detectron2 import dataloader
from ..common.models.mask_rcnn_on_glip import model
from ..common.recipes.scenes import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/scenes_mask_rcnn"
train.max_iter = 1000
train.ema.enabled = False
optimizer.lr = 2e-4
