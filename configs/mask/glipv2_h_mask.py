"""The mask head of GLIPv2-H: 2 scales, 4 layers, 384 channels; else as GLIPv2-T's (Appendix D.1).

The paper is silent on normalization. Without it a head of this depth starts at a loss of hundreds.
H has one stage of pre-training, whose last checkpoint this goes on from.
"""

from ..common.data.masks import dataloader
from ..common.models.glipv2_mask import add_mask_head
from ..pretrain.glipv2_h import inference, lr_multiplier, model, optimizer, train

add_mask_head(model, channels=384, num_scales=2, num_layers=4, norm="GN")
train.trained_parts = ["mask_head"]

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/glipv2_h_mask"
train.max_iter = 120_800
