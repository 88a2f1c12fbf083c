"""Class numbers and the names they stand for, of inputs that carry no prompt of their own.

A number means something only together with the list that it indexes. `pred_classes` index the
vocabulary of the model; `gt_classes` index the classes of the data sets that are trained on. Both
come from Detectron2's catalog, each from its own data sets.
"""

from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.counters import Counters
from ..data.datasets.phrase_classes import detection_classes
from ..data.mappers.grounding import absent_class_ids
from ..errors import ConfigError, PromptError
from ..language.negatives import DROPPED_POSITIVES, DetectionPromptSampler

__all__ = ["TrainingVocabulary", "class_names", "common_class_names", "difference"]


class TrainingVocabulary:
    """Asks training inputs without a prompt for classes of the data sets that they come from.

    Detectron2's own mapper numbers the boxes of an image (`gt_classes`) by the classes of the data
    set, and writes no prompt. Here such an input gets one, sampled by GLIP's rule
    (`DetectionPromptSampler`: the classes of its boxes, and random others, in random order), and
    its `gt_classes` become the indices of the phrases in it.

    Args:
        dataset_names: registered data sets; all have the same classes. Those that are not read yet
            are read when the first input comes (Detectron2's loaders have read them by then).
        tokenizer: of the model.

    Attributes:
        counters: boxes that were left out, because the names of an image's classes do not fit one
            prompt; another subset each time.

    Raises:
        ConfigError: two data sets have different classes.
    """

    def __init__(self, dataset_names: Sequence[str], tokenizer):
        self.dataset_names = tuple(dataset_names)
        self.tokenizer = tokenizer
        self.counters = Counters((DROPPED_POSITIVES,), __name__)
        self._sampler: DetectionPromptSampler | None = None
        common_class_names(self.dataset_names, read=False)  # what is wrong already is said now

    def with_prompt(self, batched_input: dict) -> dict:
        """The input with a prompt and with `gt_classes` that index its phrases.

        Args:
            batched_input: see `GLIP.forward`; one with a prompt is returned as it is, and what is
                given is never changed.

        Raises:
            PromptError: the classes are unknown, or a number is that of no class.
        """
        if batched_input.get("prompt") is not None:
            return batched_input
        if "caption" in batched_input:
            raise PromptError(
                f"{batched_input.get('file_name', 'a training image')} has a caption but no prompt,"
                " so the words of each box are unknown: captions are trained on with this "
                "project's GroundingDatasetMapper, which writes the prompt"
            )
        sampler = self._prompt_sampler()
        instances = batched_input["instances"]
        class_ids = instances.gt_classes.tolist()
        # An image of federated data names the classes that were verified to be absent.
        absent = absent_class_ids(batched_input, self.dataset_names[0])
        sampled = sampler(class_ids, absent)
        phrase = {class_id: k for k, class_id in enumerate(sampled.prompt.class_ids)}
        phrases = [phrase.get(class_id, -1) for class_id in class_ids]
        gt_classes = instances.gt_classes.new_tensor(phrases)
        kept = instances[gt_classes >= 0]
        kept.gt_classes = gt_classes[gt_classes >= 0]
        lost = len(instances) - len(kept)
        self.counters.add(DROPPED_POSITIVES, lost, str(batched_input.get("file_name", "")))
        return {**batched_input, "prompt": sampled.prompt, "instances": kept}

    def _prompt_sampler(self) -> DetectionPromptSampler:
        if self._sampler is None:
            names = common_class_names(self.dataset_names)
            if names is None:
                raise PromptError(
                    'a training input has no "prompt", and the names of its gt_classes are unknown:'
                    " name data sets with thing_classes in DATASETS.TRAIN (yacs) or in "
                    "model.training_datasets (LazyConfig); now it names "
                    f"{', '.join(self.dataset_names) or 'none'}"
                )
            self._sampler = DetectionPromptSampler(names, self.tokenizer)
        return self._sampler


def class_names(dataset: str, read: bool = True) -> Sequence[str] | None:
    """The classes of a registered data set, by number; None for one that has none (captions).

    Args:
        dataset: its name.
        read: COCO's json names its classes only when it is read: do so, if it must be.
    """
    if read and dataset in DatasetCatalog.list():
        if MetadataCatalog.get(dataset).get("thing_classes") is None:
            DatasetCatalog.get(dataset)
    return detection_classes(dataset)


def common_class_names(datasets: Sequence[str], read: bool = True) -> list[str] | None:
    """The classes that all these data sets have alike; None where none of them has any.

    Args:
        datasets, read: see `class_names`.

    Raises:
        ConfigError: the classes of two of them differ, in their order or otherwise.
    """
    common, owner = None, ""
    for dataset in datasets:
        names = class_names(dataset, read)
        if names is None:
            continue
        if common is None:
            common, owner = list(names), dataset
        elif list(names) != common:
            raise ConfigError(
                f"the data sets {owner!r} and {dataset!r} have different classes "
                f"({difference(common, names)}), and the numbers of their boxes do not say of "
                "which: use sets with the same thing_classes in the same order, or this project's "
                "own loaders (`glip train`), which ask every image for its own data set's names"
            )
    return common


def difference(one: Sequence[str], other: Sequence[str]) -> str:
    """The first difference of two lists of class names, for a message."""
    for number, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return f"class {number} is {a!r} and {b!r}"
    return f"{len(one)} and {len(other)} classes"
