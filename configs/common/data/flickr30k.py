"""Flickr30k Entities: phrases of a caption; a phrase with several boxes is hit by any of them.

`dataloader.test.dataset=flickr30k_merged_test` for the merged-box protocol.
"""

from .coco import dataloader

dataloader.train.datasets = ["goldg_flickr_train"]
dataloader.test.dataset = "flickr30k_separate_test"
