"""The demo's GLIPv2, second stage: without masked words, mostly on lists of names (docs/glipv2.md).

As GLIPv2-T's (Appendix D.1: "to optimize the results for object detection"). It goes on from the
first stage's last checkpoint.
"""

from .scenes_glipv2 import dataloader, inference, lr_multiplier, model, optimizer, train

model.mlm_head = None

train.init_checkpoint = f"{train.output_dir}/model_final.pth"
train.output_dir = "./output/scenes_glipv2_stage2"
train.max_iter = 1500
dataloader.train.datasets = [["scenes_train", 1.0], ["scenes_train_grounding", 0.4]]
