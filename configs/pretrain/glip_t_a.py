"""GLIP-T (A): Objects365 only, no deep fusion.

The official training starts from an ImageNet Swin: set model.backbone.bottom_up.pretrained to
"swin_tiny_patch4_window7_224" (through timm) or to the Swin authors' file.
"""

from ..common.recipes.glip_t_a import dataloader, inference, lr_multiplier, model, optimizer, train
