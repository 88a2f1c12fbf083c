"""RefCOCO, RefCOCO+ and RefCOCOg: one expression, one box; every public split is a test set.

Their training images overlap with each other's test images: those are left out of the training.
"""

import copy

from .coco import dataloader

_TESTS = [
    "refcoco_val",
    "refcoco_testA",
    "refcoco_testB",
    "refcoco+_val",
    "refcoco+_testA",
    "refcoco+_testB",
    "refcocog_val",
    "refcocog_test",
]


def _for(name, node, field):
    node = copy.deepcopy(node)
    node[field] = name
    return node


dataloader.train.datasets = ["refcoco_train", "refcoco+_train", "refcocog_train"]
dataloader.train.exclude_images_of = _TESTS
_test, _evaluator = dataloader.test, dataloader.evaluator
dataloader.evaluator = {name: _for(name, _evaluator, "dataset_name") for name in _TESTS}
dataloader.test = {name: _for(name, _test, "dataset") for name in _TESTS}
for _name in _TESTS:
    dataloader.evaluator[_name].output_dir = "${train.output_dir}/inference_" + _name
