"""CLIP-ViL on VQAv2 with CLIP's ViT-B/32 (Shen et al. 2022).

Set model.backbone.pretrained to a file of CLIP weights or to
"vit_base_patch32_clip_quickgelu_224.openai", which timm fetches.
"""

from ..common.data.vqav2 import dataloader
from ..common.mixes import VQAV2_ANSWERS, VQAV2_QUESTIONS
from ..common.models.clip_vil_vit_b32 import model
from ..common.models.understanding import add_vqa_head
from ..common.recipes.clip_vil import inference, learn, lr_multiplier, optimizer, train

add_vqa_head(model, answers=VQAV2_ANSWERS)
learn(dataloader, "vit_b32_vqa", samples=VQAV2_QUESTIONS)
