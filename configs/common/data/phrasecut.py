"""PhraseCut: a phrase, all the things that it refers to, with masks.

Boxes are trained on; `dataloader.train.mapper.use_masks=True` for a model with a mask head, which
needs PhraseCut's own refer_train.json too (datasets/README.md).
"""

from .coco import dataloader

dataloader.train.datasets = ["phrasecut_train"]
dataloader.test.dataset = "phrasecut_test"
