"""What the evaluation recipes of `configs/eval/` share: GLIP's settings and the test loader.

A recipe is added to the config of any model (`glip train --eval configs/eval/coco.py`). It
replaces the config's test sets, and sets what the protocol says about the model. Its own options
are at `evaluation`, and can be overridden like all others: `evaluation.batch_size=8`. The size of
the images stays that of the model's config (`inference`).
"""

from omegaconf import DictConfig

from .loaders import evaluator, test_loader

# Of the official config; chunk_size=None: all names in one prompt, as far as they fit.
model = dict(
    chunk_size=None,
    postprocessor=dict(
        score_threshold=0.05, topk_candidates=1000, nms_threshold=0.6, detections_per_prompt=100
    ),
)

# Per process. One image at a time as in GLIP's commands; larger batches give the same.
evaluation = dict(batch_size=1, num_workers=4)


def loader(name, **mapper):
    """Every image of a data set once; `mapper`: further options of the mapper."""
    batches = dict(batch_size="${evaluation.batch_size}", num_workers="${evaluation.num_workers}")
    return test_loader(name, mapper=mapper, **batches)


def one(name, **options):
    """A dataloader with one test set; its name can be overridden: `dataloader.test.dataset`."""
    return _node(test=loader(name), evaluator=evaluator("${dataloader.test.dataset}", **options))


def several(names, mapper=None, **options):
    """A dataloader with the first test set, and beside it the others by name.

    Each has a folder of its own.
    """
    first, *others = [
        dict(
            test=loader(name, **(mapper or {})),
            evaluator=evaluator(name, f"inference/{name}", **options),
        )
        for name in names
    ]
    return _node(**first, further_tests=dict(zip(names[1:], others)))


def _node(**parts):
    return DictConfig(parts, flags={"allow_objects": True})
