"""GQA, balanced: questions with one answer each."""

from .coco import dataloader

dataloader.train.datasets = ["gqa_train", "gqa_val"]
dataloader.test.dataset = "gqa_testdev"
