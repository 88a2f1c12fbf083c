"""GLIPv2's pre-training on the image tower of a CLOC with ViT-B/16 (docs/cloc.md).

Give its file: model.backbone.bottom_up.pretrained=output/cloc_b16/model_final.pth. Data and steps
are GLIPv2-T's, with BERT.
"""

from ..common.models.glip_clip_vit_b16 import model
from ..common.models.glipv2 import add_pretraining_losses
from ..common.recipes.glipv2_t import dataloader, inference, lr_multiplier, optimizer, train

add_pretraining_losses(model, vocabulary_size=30522)
train.output_dir = "./output/glipv2_cloc_b16"
