"""COCO captioning on Karpathy's test split: BLEU, ROUGE-L, CIDEr; with Java METEOR and SPICE.

`dataloader.test.dataset=coco_2014_captions_test`: only the file for COCO's server is written.
"""

from ..common.eval import evaluation, model, one

dataloader = one("coco_karpathy_test")
