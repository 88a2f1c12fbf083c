"""GLIP-L: Swin-L, eight blocks; FourODs, GoldG and image-text pairs.

The official training starts from an ImageNet Swin: set model.backbone.bottom_up.pretrained to
"swin_large_patch4_window12_384.ms_in22k" (through timm) or to the Swin authors' file.
"""

from ..common.data.glip_l import dataloader
from ..common.models.glip_swin_l import model
from ..common.pretraining import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_l"
train.max_iter = 1_000_000
# In float32 and without an average, unlike GLIP-T.
train.amp.enabled = False
train.ema.enabled = False
optimizer.weight_decay = 0.01
# Two thirds (0.667) of the way to each step of the learning rate.
train.weight_decay_steps = (0.667 * 0.67, 0.667 * 0.89)
dataloader.train.total_batch_size = 64
