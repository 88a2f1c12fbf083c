"""Flickr30k Entities, val and test: recall by the any-box and by the merged-box protocol.

Both judge the same predictions, so that a caption goes through the model once; MDETR's mergedGT
files differ from the separateGT ones in nothing but the boxes.
"""

from detectron2.config import LazyCall as L
from detectron2.evaluation import DatasetEvaluators

from ..common.eval import evaluation, evaluator, model, several

dataloader = several(["flickr30k_separate_val", "flickr30k_separate_test"], boxes="any")
for _set in (dataloader, *dataloader.further_tests.values()):
    _merged = evaluator(_set.test.dataset, boxes="merged")
    _merged.output_dir = None  # the predictions that are written are the same
    _set.evaluator = L(DatasetEvaluators)(evaluators=[_set.evaluator, _merged])
