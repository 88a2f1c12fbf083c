"""The classes of data sets as prompts: whole, in the order of their ids, in chunks that fit."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from detectron2.data import MetadataCatalog

from ...errors import DataError
from ...language.class_knowledge import knowledge_prompts
from ...language.class_names import detection_classes
from ...language.frozen_tokenizer import FrozenTokenizer
from ...language.prompt import SEPARATOR, Prompt
from ...language.tokenized import Tokenizer

__all__ = ["VocabularyPrompts", "class_names"]

logger = logging.getLogger(__name__)

# How often a tuned vocabulary in several chunks asks an image for one whose classes it does not
# have: in use it is asked for all of them.
NEGATIVE_CHUNK_PROB = 0.25


class VocabularyPrompts:
    """Prompts of the vocabularies of data sets, which are made once for each.

    Args:
        tokenizer, chunk_size, separator, caption_knowledge, tuned_datasets: see
            `GroundingDatasetMapper`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        chunk_size: int | None = None,
        separator: str = SEPARATOR,
        caption_knowledge: bool = False,
        tuned_datasets: str | Sequence[str | Sequence] = (),
    ):
        entries = [tuned_datasets] if isinstance(tuned_datasets, str) else tuned_datasets
        self.tokenizer = tokenizer
        self.chunk_size = chunk_size
        self.separator = separator
        self.caption_knowledge = caption_knowledge
        self.tuned_datasets = [e if isinstance(e, str) else str(e[0]) for e in entries]
        self._chunks: dict[str, list[Prompt]] = {}

    @property
    def fixed(self) -> bool:
        """Training asks for the same prompts as a test: they are tuned, or a model knows no others
        (`FrozenTokenizer`)."""
        return bool(self.tuned_datasets) or isinstance(self.tokenizer, FrozenTokenizer)

    def __call__(self, dataset: str) -> list[Prompt]:
        """The prompts of a data set.

        Raises:
            DataError: see `class_names`.
            PromptError: a class that cannot be asked for.
        """
        if dataset not in self._chunks:
            names, size = class_names(dataset), self.chunk_size
            knowledge = MetadataCatalog.get(dataset).get("caption_knowledge")
            if self.caption_knowledge and knowledge:
                prompts = knowledge_prompts(names, knowledge, size, self.separator)
            else:
                prompts = self.tokenizer.split(names, size=size, separator=self.separator)
            self._chunks[dataset] = self._with_tuned(dataset, prompts)
        return self._chunks[dataset]

    def _with_tuned(self, dataset: str, prompts: list[Prompt]) -> list[Prompt]:
        """The tuned prompts where the data set has their classes, in whatever order."""
        if not self.tuned_datasets:
            return prompts
        first = self.tuned_datasets[0]
        if dataset == first:
            return [replace(p, embedding_id=f"{first}/{i}") for i, p in enumerate(prompts)]
        names, tuned = list(class_names(dataset)), self._tuned_classes()
        if self.tunes(dataset):
            ids = range(len(names)) if names == tuned else [names.index(name) for name in tuned]
            return [replace(p, class_ids=tuple(ids[i] for i in p.class_ids)) for p in self.tuned()]
        if common := [name for name in names if name in tuned]:
            logger.warning(
                "%s has %d of the classes for which a prompt is tuned (%s), and others, or not all "
                "of them: it is asked with the plain prompt",
                dataset,
                len(common),
                ", ".join(common[:3]),
            )
        return prompts

    def tuned(self) -> list[Prompt]:
        """The prompts that are tuned.

        Raises:
            DataError: their data set has no classes; or see `__call__`.
        """
        self._tuned_classes()
        return self(self.tuned_datasets[0])

    def tunes(self, dataset: str) -> bool:
        """Whether a data set has the classes for which a prompt is tuned, in whatever order."""
        if not self.tuned_datasets:
            return False
        names, tuned = list(class_names(dataset)), self._tuned_classes()
        # Of two classes with one name only the order tells which is which.
        unique = len(set(tuned)) == len(tuned)
        return names == tuned or (unique and sorted(names) == sorted(tuned))

    def _tuned_classes(self) -> list[str]:
        name = self.tuned_datasets[0]
        names = detection_classes(name, read=True)
        if not names:
            raise DataError(
                f"a prompt is tuned for the classes of a data set, and {name!r} has none: name one "
                "with boxes of classes first in dataloader.train.datasets"
            )
        return list(names)

    def require_tuned(self, dataset: str) -> None:
        """Refuse to tune a prompt on data of other classes, or of captions.

        Raises:
            DataError: these are such data.
        """
        if detection_classes(dataset) is None or not self.tunes(dataset):
            raise DataError(
                f"a prompt is tuned for the classes of {self.tuned_datasets[0]!r}, and the data "
                f"set {dataset!r} has captions or other classes: take it out of "
                "dataloader.train.datasets (the model forgets nothing without it, it stays as it "
                "is)"
            )

    def training_prompt(self, dataset: str, positive_ids: Collection[int]) -> Prompt:
        """The chunk that an image is trained with: mostly one that has classes of the image.

        Args:
            positive_ids: of the classes in the image.
        """
        holding: list[Prompt] = []
        others: list[Prompt] = []
        for chunk in self(dataset):
            (others if set(positive_ids).isdisjoint(chunk.class_ids) else holding).append(chunk)
        if others and (not holding or random.random() < NEGATIVE_CHUNK_PROB):
            return random.choice(others)
        return random.choice(holding)


def class_names(dataset_name: str) -> Sequence[str]:
    """The names of a detection data set, by contiguous class id.

    Raises:
        DataError: the data set has no `thing_classes`.
    """
    names = detection_classes(dataset_name)
    if not names:
        raise DataError(
            f"the data set {dataset_name!r} has no class names: set "
            "MetadataCatalog.get(name).thing_classes, or load it first (COCO json sets them then)"
        )
    return names
