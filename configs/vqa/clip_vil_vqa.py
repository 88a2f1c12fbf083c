"""CLIP-ViL on VQAv2, from CLIP's ResNet-50x4 and BERT (Shen et al. 2022).

Set model.backbone.pretrained to a file of CLIP weights or to "resnet50x4_clip.openai", which timm
fetches. The authors begin with a pre-training on image-text pairs; the sizes of images of their
model without it are inference.min_size=600 inference.max_size=1000 (and grid_size 32).
"""

from ..common.data.vqav2 import dataloader
from ..common.mixes import VQAV2_ANSWERS, VQAV2_QUESTIONS
from ..common.models.understanding import add_vqa_head
from ..common.recipes.clip_vil import inference, learn, lr_multiplier, model, optimizer, train

add_vqa_head(model, answers=VQAV2_ANSWERS)
learn(dataloader, "vqa", samples=VQAV2_QUESTIONS)
