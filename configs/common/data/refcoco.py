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


dataloader.train.datasets = ["refcoco_train", "refcoco+_train", "refcocog_train"]
dataloader.train.exclude_images_of = _TESTS


def _of(name):
    test, evaluator = copy.deepcopy(dataloader.test), copy.deepcopy(dataloader.evaluator)
    test.dataset = name
    evaluator.dataset_name = "${..test.dataset}"
    evaluator.output_dir = "${train.output_dir}/inference_" + name
    return dict(test=test, evaluator=evaluator)


_first, *_further = map(_of, _TESTS)
dataloader.update(_first, further_tests=dict(zip(_TESTS[1:], _further)))
