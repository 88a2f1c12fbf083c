"""CLIP-ViL on SNLI-VE, from CLIP's ResNet-50x4 and BERT (Shen et al. 2022).

As vqa/clip_vil_vqa.py; the authors' settings for SNLI-VE are not published.
"""

from glipv2_d2.data.datasets.snli_ve import SNLI_VE_ANSWERS

from ..common.data.snli_ve import dataloader
from ..common.mixes import SNLI_VE_SENTENCES
from ..common.models.understanding import add_vqa_head
from ..common.recipes.clip_vil import inference, learn, lr_multiplier, model, optimizer, train

add_vqa_head(model, answers=list(SNLI_VE_ANSWERS))
learn(dataloader, "snli_ve", samples=SNLI_VE_SENTENCES)
