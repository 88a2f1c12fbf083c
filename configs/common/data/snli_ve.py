"""SNLI-VE: does the picture entail the sentence? `SNLI_VE_ANSWERS` are the answers."""

from .coco import dataloader

dataloader.train.datasets = ["snli_ve_train"]
dataloader.test.dataset = "snli_ve_dev"
