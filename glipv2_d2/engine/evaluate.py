"""Evaluation of a model on one or several test sets of a LazyConfig."""

import copy
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    DatasetEvaluator,
    inference_context,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, open_dict
from torch import nn

from ..config import named_setting
from ..data.shared_records import agreed
from ..errors import ConfigError, DataError
from ..evaluation import RegionEvaluator, build_evaluator
from ..evaluation.tables import Table, metric_tables, write_results
from ..language.prompt import Prompt
from ..modeling import GLIP, GLIPWithTTA
from ..modeling.heads import AnsweringHead
from ..modeling.mask_output import rescale
from .image_headers import dataset_names, require_test_images

__all__ = [
    "add_test_set",
    "asked_as_trained",
    "evaluate_test_sets",
    "in_original_size",
    "missing_files",
    "pair_test_sets",
    "require_test_data",
]

logger = logging.getLogger(__name__)


class TestSet(NamedTuple):
    """The nodes of a test loader and of its evaluator."""

    loader: DictConfig
    evaluator: DictConfig


def pair_test_sets(dataloader: DictConfig) -> dict[str, TestSet]:
    """Pair the test loaders of a config with their evaluators.

    Args:
        dataloader: has `test` and `evaluator`, a node each, as in Detectron2, whose own programs
            evaluate these; and, beside them, `further_tests`: by name dicts of `test` and
            `evaluator`. Until 0.3, with a warning, also lists of the same length or dicts with the
            same keys as `test` and `evaluator`.

    Returns:
        Name -> test set. A single one has the name `""`; beside further ones it is named by its
        data set.

    Raises:
        ConfigError: `test` or `evaluator` is no node, a further test set lacks one of them, or two
            test sets have one name.
    """
    further = dataloader.get("further_tests") or {}
    named: dict[str, TestSet] = {}
    if "test" in dataloader and "evaluator" in dataloader:
        own = TestSet(dataloader.test, dataloader.evaluator)
        if _is_call(own.loader) and _is_call(own.evaluator):
            named[_name_of(own) if further else ""] = own
        else:
            named.update(_several_as_in_0_1(*own))
    for name, entry in further.items():
        if not isinstance(entry, Mapping) or not {"test", "evaluator"} <= set(entry):
            raise ConfigError(
                f"dataloader.further_tests.{name} must be a dict of `test`, a loader, and "
                f"`evaluator`; it is {_shape_of(entry)}"
            )
        if name in named:
            raise ConfigError(
                f"two test sets are called '{name}', and the results of one would be lost: give "
                "the one in dataloader.further_tests another name"
            )
        named[str(name)] = TestSet(entry["test"], entry["evaluator"])
    return named


def _several_as_in_0_1(loaders: Any, evaluators: Any) -> dict[str, TestSet]:
    """The test sets of lists, or of dicts, as `dataloader.test` and `dataloader.evaluator`."""
    several: dict[str, TestSet] | None = None
    if isinstance(loaders, Mapping) and isinstance(evaluators, Mapping):
        if not _is_call(loaders) and set(loaders) == set(evaluators):
            several = {str(name): TestSet(loaders[name], evaluators[name]) for name in loaders}
    elif isinstance(loaders, Sequence) and isinstance(evaluators, Sequence):
        if len(loaders) == len(evaluators):
            pairs = [TestSet(*pair) for pair in zip(loaders, evaluators)]
            several = {_name_of(pair, f"test{i}"): pair for i, pair in enumerate(pairs)}
            if len(several) < len(pairs):
                raise ConfigError(
                    "two test sets of dataloader.test have one name, and the results of one would "
                    "be lost: give each a name in dataloader.further_tests"
                )
    if several is None:
        raise ConfigError(
            "dataloader.test and dataloader.evaluator must be one node each; they are "
            f"{_shape_of(loaders)} and {_shape_of(evaluators)}: further test sets go into "
            "dataloader.further_tests={name: {test: ..., evaluator: ...}}"
        )
    warnings.warn(
        "several test sets as dataloader.test and dataloader.evaluator: all but one belong into "
        "dataloader.further_tests now; lists and dicts go with 0.3",
        FutureWarning,
        stacklevel=3,
    )
    return several


def add_test_set(dataloader: DictConfig, name: str) -> None:
    """Evaluate on one more data set as on the config's own test set, in place.

    Args:
        dataloader: as for `pair_test_sets`.
        name: a registered data set; its metadata says how it is evaluated.

    Raises:
        ConfigError: a test set has this name already, or there is none to be like.
    """
    if not _is_call(dataloader.get("test")):
        raise ConfigError(
            f"{name!r} is to be evaluated as the test set of the config, and dataloader.test is no "
            "single one: name the further test sets in dataloader.further_tests"
        )
    if name in pair_test_sets(dataloader) or name == dataloader.test.get("dataset"):
        raise ConfigError(f"{name!r} is a test set already")
    test = copy.deepcopy(dataloader.test)
    test.dataset = name
    folder = "${train.output_dir}/inference/" + name
    test_set = {"test": test, "evaluator": L(build_evaluator)(dataset_name=name, output_dir=folder)}
    with open_dict(dataloader):
        dataloader.further_tests = {**(dataloader.get("further_tests") or {}), name: test_set}


def missing_files(names: Iterable[str]) -> dict[str, str]:
    """Registered data sets whose files are not on the disk.

    Args:
        names: names in the `DatasetCatalog`; others are left to whoever loads them.

    Returns:
        Name -> the annotation file, or else the folder of images, that is not there.
    """
    missing = {}
    for name in names:
        if name not in DatasetCatalog.list():
            continue
        metadata = MetadataCatalog.get(name)
        paths = [metadata.get("json_file"), metadata.get("image_root")]
        paths = [path for path in paths if isinstance(path, str) and path]
        if absent := [path for path in paths if not PathManager.exists(path)]:
            missing[name] = absent[0]
    return missing


def require_test_data(dataloader: DictConfig) -> None:
    """Check files, records and images of all test sets now, not hours later when it is their turn.

    Args:
        dataloader: see `pair_test_sets`.

    Raises:
        DataError: files are missing, and it names all of them; or records or images cannot be
            evaluated, see `require_test_images`.
    """
    loaders = {name: loader for name, (loader, _) in pair_test_sets(dataloader).items()}
    agreed(lambda: _require_files(loaders.values()))  # machines may have other disks
    require_test_images(loaders)


def _require_files(loaders: Collection[DictConfig]) -> None:
    missing = missing_files(name for node in loaders for name in dataset_names(node))
    if missing:
        listed = "".join(f"\n  {name}: there is no {path}" for name, path in missing.items())
        raise DataError(
            f"{len(missing)} of {len(loaders)} test sets are not on the disk below "
            f"{os.getenv('DETECTRON2_DATASETS', 'datasets')} (DETECTRON2_DATASETS):{listed}"
        )


def evaluate_test_sets(
    dataloader: DictConfig,
    model: nn.Module,
    *,
    original_size: bool = False,
    options: Mapping[str, Any] = MappingProxyType({}),
    output_dir: str | None = None,
    iterations: int | None = None,
) -> dict:
    """Run the model on every test set; print, and write, the tables of each.

    Args:
        dataloader: see `pair_test_sets`. It may have a `summary`: a call that gets the `results` of
            several test sets and returns a `Table`, which is printed at the end.
        model: the model, on its device; a DistributedDataParallel wrapper is looked through.
        original_size: leave out the loaders' own resizing, for a model that resizes itself.
        options: further fields of the inputs of a GLIP, see `GLIP.forward`.
        output_dir: for the files of `write_results`; None: no files.
        iterations: that the training has done, for these files; None without a training.

    Returns:
        What the evaluator returned (`{"bbox": {"AP50": ...}}`), under the test set's name when
        there are several. Empty on other ranks than 0, and without test sets.
    """
    model = getattr(model, "module", model)
    results, tables = {}, []
    for name, (loader, evaluator) in pair_test_sets(dataloader).items():
        if name:
            logger.info("Evaluating on %s", name)
        loader = in_original_size(loader) if original_size else loader
        # First, since it tells all processes what one of them has read: the class names.
        with named_setting("dataloader.test"):
            batches = instantiate(loader)
        with named_setting("dataloader.evaluator"):
            evaluator = instantiate(evaluator)
        with inference_context(model):
            result = inference_on_dataset(_outputs(model, evaluator, options), batches, evaluator)
        if not result:
            continue
        print_csv_format(result)
        tables += _tables(name, evaluator, result)
        if name:
            results[name] = result
        else:
            results = result
    if results and "summary" in dataloader:
        summary = copy.deepcopy(dataloader.summary)
        summary.results = results
        tables.append(instantiate(summary))
        logger.info("%s", tables[-1])
    if results and output_dir is not None:
        write_results(output_dir, iterations, results, tables)
    return results


def _outputs(
    model: nn.Module, evaluator: DatasetEvaluator, options: Mapping[str, Any]
) -> Callable[[list[dict]], list[dict]]:
    """The model as the evaluator wants it called.

    An evaluator with `boxes_only = True` looks at boxes alone, so that masks need not be computed.
    One with `roi_masks = True` takes Detectron2's ROIMasks and pastes what counts: all masks of a
    large vocabulary do not fit the memory. One with `with_boxes` gives the model all boxes.
    """
    given = [single for single in _members(evaluator) if isinstance(single, RegionEvaluator)]
    if given:
        return lambda inputs: model([given[0].with_boxes(x) for x in inputs])
    if not isinstance(model, GLIP | GLIPWithTTA):
        return model
    if all(getattr(single, "boxes_only", False) for single in _members(evaluator)):
        options = {**options, "boxes_only": True}
    elif getattr(evaluator, "roi_masks", False):

        def small(inputs: list[dict]) -> list[dict]:
            found = model.inference([{**x, **options} for x in inputs], do_postprocess=False)
            return [{"instances": rescale(y, x)} for x, y in zip(inputs, found)]

        return small
    as_trained = asked_as_trained(model)
    return lambda inputs: model([{**as_trained(x), **options} for x in inputs])


def asked_as_trained(model: nn.Module) -> Callable[[dict], dict]:
    """Makes inputs whose questions are as `GroundingPredictor.answer` asks them: of a model with
    `ground_answer` those of a plain data set (VQAv2's for its server) end with `MASK`, too."""
    heads = model.heads_of(AnsweringHead) if isinstance(model, GLIP) else ()
    return _left_open if any(head.ground_answer for head in heads) else dict


def _left_open(x: dict) -> dict:
    """An input whose questions end with `MASK`."""
    prompts = x.get("prompt") or ()
    asked = [prompts] if isinstance(prompts, Prompt) else prompts
    opened = [p.left_open() if p.kind == "question" else p for p in asked]
    return {**x, "prompt": opened} if opened else x


def _members(evaluator: DatasetEvaluator) -> Sequence[DatasetEvaluator]:
    """The evaluators of Detectron2's DatasetEvaluators; or the one itself."""
    return getattr(evaluator, "_evaluators", [evaluator])


def _tables(name: str, evaluator: DatasetEvaluator, result: Mapping) -> list[Table]:
    """What the evaluator printed, or, of a foreign one, what it returned."""
    evaluators = _members(evaluator)
    tables = [table for single in evaluators for table in getattr(single, "tables", ())]
    if not all(hasattr(single, "tables") for single in evaluators):
        tables = []
        for task, metrics in result.items():
            tables += metric_tables(task, metrics if isinstance(metrics, Mapping) else result)
    prefix = f"{name}: " if name else ""
    return [table._replace(title=prefix + table.title) for table in tables]


def in_original_size(loader: DictConfig) -> DictConfig:
    """A copy of a test loader's node that hands out images as they are in their files."""
    loader = copy.deepcopy(loader)  # its parent, to which it may refer, is not copied
    loader.mapper.augmentations = []
    return loader


def _is_call(node) -> bool:
    return isinstance(node, Mapping) and "_target_" in node


def _name_of(test_set: TestSet, otherwise: str = "test") -> str:
    names = (test_set.evaluator.get("dataset_name"), test_set.loader.get("dataset"))
    return next((name for name in names if isinstance(name, str)), otherwise)


def _shape_of(node) -> str:
    if _is_call(node):
        return "one node"
    if isinstance(node, Mapping):
        return f"a dict of {', '.join(map(str, node))}"
    return f"a list of {len(node)}" if isinstance(node, Sequence) else type(node).__name__
