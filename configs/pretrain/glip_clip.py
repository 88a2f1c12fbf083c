"""GLIP-T (C) with CLIP's ResNet-50 as image encoder.

Training starts from CLIP: set model.backbone.bottom_up.pretrained to a file of CLIP weights, or to
"resnet50_clip.openai", which timm fetches. For CLIP's ViT-B/16 take the model of
common/models/glip_clip_vit_b16.py.
"""

from ..common.models.glip_clip_resnet50 import model
from ..common.recipes.glip_t_c import dataloader, inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_clip"
