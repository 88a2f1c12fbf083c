"""PhraseCut: a phrase, all the things that it refers to, with masks.

Boxes are trained on; `dataloader.train.mapper.use_masks=True` for a model with a mask head.
"""

from .coco import dataloader

dataloader.train.datasets = ["phrasecut_train"]
dataloader.test.dataset = "phrasecut_test"
