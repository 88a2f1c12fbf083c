"""GLIPv2-T, second stage: without masked words, on detection and GoldG alone (Section 4.4).

It goes on from the first stage's last checkpoint.
"""

from .glipv2_t import dataloader, inference, lr_multiplier, model, optimizer, train

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/glipv2_t_stage2"
train.max_iter = 300_000
model.mlm_head = None
dataloader.train.datasets = [
    ["objects365_train", 1.0],
    ["goldg_mixed_no_coco_train", 1.0],
    ["goldg_flickr_train", 1.0],
]
