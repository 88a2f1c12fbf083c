"""Cap4M: captions of the web with boxes of GLIP-T (C), in GLIP's TSV format.

The authors' files were never published; the recipe is for one's own in their format.
"""

from .coco import dataloader

dataloader.train.datasets = [["cap4m_train", 1.0]]
