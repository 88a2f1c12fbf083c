"""GLIP-L: Swin-L, eight blocks; FourODs, GoldG and image-text pairs.

The official training starts from an ImageNet Swin: set model.backbone.bottom_up.pretrained to
"swin_large_patch4_window12_384.ms_in22k" (through timm) or to the Swin authors' file.
"""

from ..common.recipes.glip_l import dataloader, inference, lr_multiplier, model, optimizer, train
