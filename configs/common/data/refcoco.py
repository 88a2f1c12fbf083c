"""RefCOCO, RefCOCO+ and RefCOCOg: one expression, one box; every public split is a test set.

Their training images overlap with each other's test images: those are left out of the training.
"""

from ..loaders import evaluator, test_loader
from .coco import dataloader

_TESTS = [
    *(f"{data}_{split}" for data in ("refcoco", "refcoco+") for split in ("val", "testA", "testB")),
    *("refcocog_val", "refcocog_test"),
]


def _test(name):
    return dict(
        test=test_loader(name, batch_size=1, num_workers=4),
        evaluator=evaluator("${..test.dataset}", f"inference_{name}"),
    )


dataloader.train.datasets = ["refcoco_train", "refcoco+_train", "refcocog_train"]
dataloader.train.exclude_images_of = _TESTS
dataloader.update(_test(_TESTS[0]), further_tests={name: _test(name) for name in _TESTS[1:]})
