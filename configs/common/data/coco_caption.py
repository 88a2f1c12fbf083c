"""COCO captions, Karpathy's splits: train with restval, tested on test."""

from .coco import dataloader

dataloader.train.datasets = ["coco_karpathy_train"]
dataloader.test.dataset = "coco_karpathy_test"
