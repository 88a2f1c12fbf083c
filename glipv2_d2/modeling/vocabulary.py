"""Class numbers and the names they stand for, of inputs that carry no prompt of their own.

A number means something only together with the list that it indexes. `pred_classes` index the
vocabulary of the model; `gt_classes` index the classes of the data sets that are trained on. Both
come from Detectron2's catalog, each from its own data sets.
"""

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, PromptError, printable
from ..language.class_names import detection_classes
from ..language.negatives import DROPPED_POSITIVES, DetectionPromptSampler, absent_class_ids
from ..language.prompt import Prompt
from ..language.tokenized import Tokenizer

__all__ = ["TrainingVocabulary", "common_class_names", "difference", "prompts_of"]

logger = logging.getLogger(__name__)


def prompts_of(batched_input: dict, vocabulary: list[Prompt]) -> list[Prompt]:
    """The prompts of a model input; without its own those of the vocabulary.

    Raises:
        PromptError: none, or something that is no Prompt.
    """
    prompt = batched_input.get("prompt")
    prompt = vocabulary if prompt is None else prompt
    prompts: list[Any] = [prompt] if isinstance(prompt, Prompt | str) else list(prompt)
    for item in prompts:
        if not isinstance(item, Prompt):
            raise PromptError(
                f'"prompt" takes a Prompt or a list of them, got {item!r} of type '
                f"{type(item).__name__}: make one with Prompt.from_classes or Prompt.parse"
            )
    if not prompts:
        raise PromptError(
            'no prompt: give each input a "prompt" (a Prompt), or call model.set_vocabulary([...])'
        )
    return prompts


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
        dropped_boxes: how many boxes were left out, because the names of an image's classes do not
            fit one prompt; another subset each time. Logged at 1, 10, 100, ... of them.

    Raises:
        ConfigError: two data sets have different classes.
    """

    def __init__(self, dataset_names: Sequence[str], tokenizer: Tokenizer):
        self.dataset_names = tuple(dataset_names)
        self.tokenizer = tokenizer
        self.dropped_boxes = 0
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
        self._count_dropped(len(instances) - len(kept), batched_input.get("file_name", "no file"))
        return {**batched_input, "prompt": sampled.prompt, "instances": kept}

    def _count_dropped(self, count: int, file_name: object) -> None:
        digits = len(str(self.dropped_boxes)) if self.dropped_boxes else 0
        self.dropped_boxes += count
        if count and len(str(self.dropped_boxes)) > digits:
            example = printable(str(file_name))
            logger.warning("%s: %d so far (%s)", DROPPED_POSITIVES, self.dropped_boxes, example)

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


def common_class_names(datasets: Sequence[str], read: bool = True) -> list[str] | None:
    """The classes that all these data sets have alike; None where none of them has any.

    Args:
        datasets: their names.
        read: see `detection_classes`.

    Raises:
        ConfigError: the classes of two of them differ, in their order or otherwise.
    """
    common: list[str] | None = None
    owner = ""
    for dataset in datasets:
        names = detection_classes(dataset, read)
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
