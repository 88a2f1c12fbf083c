"""What GLIPv2's mask heads are pre-trained on (Table 8): COCO, LVIS and PhraseCut, with masks."""

from .coco import dataloader

dataloader.train.datasets = [
    ["coco_2017_train", 1.0],
    ["lvis_v1_train", 1.0],
    ["phrasecut_train", 1 / 3],
]
dataloader.train.mapper.use_masks = True
dataloader.train.total_batch_size = 64
