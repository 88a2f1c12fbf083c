"""CC15M + SBU: Conceptual Captions (3M and 12M) and SBU with pseudo boxes, in tar shards."""

from .coco import dataloader

dataloader.train.datasets = [["cc15m_sbu_train", 1.0]]
