"""CLIP-ViL on GQA, from CLIP's ResNet-50x4 and BERT (Shen et al. 2022).

As vqa/clip_vil_vqa.py; the authors' settings for GQA are not published.
"""

from ..common.data.gqa import dataloader
from ..common.mixes import GQA_ANSWERS, GQA_QUESTIONS
from ..common.models.understanding import add_vqa_head
from ..common.recipes.clip_vil import inference, learn, lr_multiplier, model, optimizer, train

add_vqa_head(model, answers=GQA_ANSWERS)
learn(dataloader, "gqa", samples=GQA_QUESTIONS)
