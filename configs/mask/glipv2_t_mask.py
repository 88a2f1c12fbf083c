"""The mask head of GLIPv2-T on COCO, LVIS and PhraseCut, all else frozen (Appendix D.1).

24, 24 and 8 epochs in batches of 64, here as a mix of the three: an epoch of the mix has a third of
PhraseCut's, 118,287 + 100,170 + 310,816 / 3 images, and there are 24 of these. The paper states no
learning rate: that of the pre-training. It goes on from the second stage's last checkpoint.
"""

from ..common.data.masks import dataloader
from ..common.models.glipv2_mask import add_mask_head
from ..pretrain.glipv2_t_stage2 import inference, lr_multiplier, model, optimizer, train

add_mask_head(model)
train.trained_parts = ["mask_head"]

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/glipv2_t_mask"
train.max_iter = 120_800
