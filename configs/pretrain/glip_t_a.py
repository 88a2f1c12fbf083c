"""GLIP-T (A): Objects365 only, no deep fusion.

The official training starts from an ImageNet Swin: set model.backbone.bottom_up.pretrained to
"swin_tiny_patch4_window7_224" (through timm) or to the Swin authors' file.
"""

from ..common.data.objects365 import dataloader
from ..common.models.glip_swin_t_a import model
from ..common.optim import optimizer
from ..common.schedule import lr_multiplier
from ..common.train import inference, train

train.output_dir = "./output/glip_t_a"
# 30 epochs of Objects365 v1 (609,000 images) at a batch of 64.
train.max_iter = 285_000
train.ema.warmup = False
dataloader.train.total_batch_size = 64
