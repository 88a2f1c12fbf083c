"""The mask head of GLIPv2-B on COCO, LVIS and PhraseCut, as that of GLIPv2-T (Appendix D.1)."""

from ..common.data.masks import dataloader
from ..common.models.glipv2_mask import add_mask_head
from ..pretrain.glipv2_b_stage2 import inference, lr_multiplier, model, optimizer, train

add_mask_head(model)
train.trained_parts = ["mask_head"]

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/glipv2_b_mask"
train.max_iter = 120_800
