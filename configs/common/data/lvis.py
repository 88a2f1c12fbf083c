"""LVIS v1: federated negatives in training; minival in prompts of 40 names in tests."""

from .coco import dataloader

dataloader.train.datasets = ["lvis_v1_train"]
dataloader.test.dataset = "lvis_v1_minival"
dataloader.test.mapper.chunk_size = 40
