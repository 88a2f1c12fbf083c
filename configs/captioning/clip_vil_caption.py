"""CLIP-ViL's towers for COCO's captions, at their size for this: within 448 x 448 pixels.

The authors write captions by a transformer of its own on frozen features, which are of squeezed
images, and go on to train on CIDEr. Here it is the model of vqa/clip_vil_vqa.py, trained as that.
"""

from ..common.data.coco_caption import dataloader
from ..common.mixes import COCO_CAPTIONS
from ..common.models.understanding import add_caption_head
from ..common.recipes.clip_vil import inference, learn, lr_multiplier, model, optimizer, train

add_caption_head(model, vocabulary_size=30522)
inference.min_size = inference.max_size = 448
learn(dataloader, "caption", samples=COCO_CAPTIONS)
