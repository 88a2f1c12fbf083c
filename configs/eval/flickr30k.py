"""Flickr30k Entities, val and test: recall by the any-box and by the merged-box protocol.

Both judge the same predictions, so that a caption goes through the model once; MDETR's mergedGT
files differ from the separateGT ones in nothing but the boxes.
"""

from detectron2.config import LazyCall as L
from detectron2.evaluation import DatasetEvaluators

from ..common.eval import evaluation, evaluator, model, several

dataloader = several(["flickr30k_separate_val", "flickr30k_separate_test"])
for _name, _any in dataloader.evaluator.items():
    _merged = evaluator(_name, boxes="merged")
    _merged.output_dir = None  # the predictions that are written are the same
    _any.boxes = "any"
    dataloader.evaluator[_name] = L(DatasetEvaluators)(evaluators=[_any, _merged])
