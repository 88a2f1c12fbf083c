"""Evaluation of a model on one or several test sets of a LazyConfig."""

import copy
import logging
from collections.abc import Mapping, Sequence

from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset, print_csv_format
from omegaconf import DictConfig
from torch import nn

from glipv2_d2.config import ConfigError

__all__ = ["evaluate_test_sets", "in_original_size", "pair_test_sets"]

logger = logging.getLogger(__name__)


def pair_test_sets(dataloader: DictConfig) -> dict[str, tuple]:
    """Pair the test loaders of a config with their evaluators.

    Args:
        dataloader: has ``test`` and ``evaluator``, both of one form: a single node, as in
            Detectron2; lists of the same length; or dicts with the same keys.

    Returns:
        Name -> (loader node, evaluator node). A single pair has the name ``""``; a list's pairs
        are named by their data set.

    Raises:
        ConfigError: the two do not match.
    """
    if "test" not in dataloader or "evaluator" not in dataloader:
        return {}
    loaders, evaluators = dataloader.test, dataloader.evaluator
    if _is_call(loaders) and _is_call(evaluators):
        return {"": (loaders, evaluators)}
    if isinstance(loaders, Mapping) and isinstance(evaluators, Mapping):
        if not _is_call(loaders) and set(loaders) == set(evaluators):
            return {str(name): (loaders[name], evaluators[name]) for name in loaders}
    elif isinstance(loaders, Sequence) and isinstance(evaluators, Sequence):
        if len(loaders) == len(evaluators):
            pairs = zip(loaders, evaluators)
            return {_name_of(e, i): (t, e) for i, (t, e) in enumerate(pairs)}
    raise ConfigError(
        "dataloader.test and dataloader.evaluator must both be one node, lists of the same length, "
        f"or dicts with the same keys; they are {_shape_of(loaders)} and {_shape_of(evaluators)}."
    )


def evaluate_test_sets(
    dataloader: DictConfig, model: nn.Module, *, original_size: bool = False
) -> dict:
    """Run the model on every test set and print Detectron2's table for each.

    Args:
        dataloader: see :func:`pair_test_sets`.
        model: the model, on its device; a DistributedDataParallel wrapper is looked through.
        original_size: leave out the loaders' own resizing, for a model that resizes itself.

    Returns:
        What the evaluator returned (``{"bbox": {"AP50": ...}}``), under the test set's name when
        there are several. Empty on other ranks than 0, and without test sets.
    """
    model = getattr(model, "module", model)
    results = {}
    for name, (loader, evaluator) in pair_test_sets(dataloader).items():
        if name:
            logger.info("Evaluating on %s", name)
        loader = in_original_size(loader) if original_size else loader
        result = inference_on_dataset(model, instantiate(loader), instantiate(evaluator))
        if not result:
            continue
        print_csv_format(result)
        if not name:
            return result
        results[name] = result
    return results


def in_original_size(loader: DictConfig) -> DictConfig:
    """A copy of a test loader's node that hands out images as they are in their files."""
    loader = copy.deepcopy(loader)  # its parent, to which it may refer, is not copied
    loader.mapper.augmentations = []
    return loader


def _is_call(node) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _name_of(evaluator, index: int) -> str:
    return str(evaluator.get("dataset_name", f"test{index}"))


def _shape_of(node) -> str:
    if _is_call(node):
        return "one node"
    if isinstance(node, Mapping):
        return f"a dict of {', '.join(map(str, node))}"
    return f"a list of {len(node)}" if isinstance(node, Sequence) else type(node).__name__
