"""What a task head is, and the training pass that every one of them reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from detectron2.structures import ImageList, Instances
from torch import nn

from ...language.prompt import Prompt
from ...language.tokenized import TokenizedPrompts, Tokenizer
from ..boxes import InclusiveBoxCoder
from ..matcher import GroundingTargets
from ..text.features import TextFeatures
from .grounding import GroundingOutput

if TYPE_CHECKING:
    from ..generation import Decoding, Written
    from ..meta_arch.glip import GLIP

__all__ = [
    "AnsweringHead",
    "RefiningHead",
    "TaskHead",
    "TrainingBatch",
    "TrainingPass",
    "WritingHead",
]


@dataclass(frozen=True)
class TrainingBatch:
    """The B inputs of a training step and their texts, before anything is encoded.

    Attributes:
        inputs: the dicts of the data loader, each with one prompt.
        prompts: of each input.
        tokens: of the prompts as they are written; targets are made from these.
        gt_phrases: per image (G,) int64, the phrase of each box in the image's prompt.
        grounded: (B,) bool, the images whose boxes are known ("instances"). The others have no
            part in losses on boxes and their words.
        shown: what the language backbone reads: `tokens`, or what a head made of them.
        withheld: (B, T) bool, words that a head keeps from the model, which is to tell them. They
            take no part in losses on the words that are read.
    """

    inputs: list[dict]
    prompts: list[Prompt]
    tokens: TokenizedPrompts
    gt_phrases: list[torch.Tensor]
    grounded: torch.Tensor
    shown: TokenizedPrompts
    withheld: torch.Tensor

    def showing(self, shown: TokenizedPrompts, withheld: torch.Tensor) -> TrainingBatch:
        """The same batch with other tokens shown; `withheld`: (B, T) bool, further such words."""
        return replace(self, shown=shown, withheld=self.withheld | withheld)


@dataclass(frozen=True)
class TrainingPass:
    """One forward pass of GLIP in training: all that a loss may read.

    Attributes:
        batch: the inputs, prompts and tokens.
        images: normalized and padded; `image_sizes` are those without padding.
        features: pyramid levels (B, C, h, w) before fusion, fine to coarse, N positions in all.
        text: features of the tokens shown, before fusion.
        word_embedding: (V, L), of the language backbone; None: it has no words of its own.
        levels, words: fused, (B, C, h, w) each and (B, T, L).
        output: of the grounding head.
        anchors: per level (h * w, 4), inclusive, pixels.
        strides: of each level, pixels.
        targets: the ground truth of boxes and words; nothing where boxes are not known.
        matches: (B, N) int64, the image's box that each anchor is to predict; -1 for none.
        box_coder: between anchors and boxes.
    """

    batch: TrainingBatch
    images: ImageList
    features: list[torch.Tensor]
    text: TextFeatures
    word_embedding: torch.Tensor | None
    levels: list[torch.Tensor]
    words: torch.Tensor
    output: GroundingOutput
    anchors: list[torch.Tensor]
    strides: Sequence[int]
    targets: GroundingTargets
    matches: torch.Tensor
    box_coder: InclusiveBoxCoder


class TaskHead(nn.Module):
    """A task on top of GLIP: contrast, masked words, masks, ...

    A model has the heads that are its attributes (see `GLIP.task_heads`), so that a new one needs
    its own file and a config, and neither the model nor another head. A head holds parameters and
    settings, nothing of a single call.
    """

    def check(self, model: GLIP) -> None:
        """Refuse a model that the head does not fit, when both are built.

        Raises:
            ConfigError: it does not fit; it names the setting.
        """

    def prepare_text(self, batch: TrainingBatch, tokenizer: Tokenizer) -> TrainingBatch:
        """Change what the language backbone is shown in training; see `TrainingBatch.showing`.

        Args:
            tokenizer: of the model.
        """
        return batch

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """Weighted scalars by name."""
        raise NotImplementedError


class AnsweringHead(TaskHead):
    """A task head that answers questions at inference.

    Attributes:
        ground_answer: the questions that it was trained with end with `MASK`, whose boxes are the
            answer's.
    """

    ground_answer: bool

    def answer(self, words: torch.Tensor, mask: torch.Tensor) -> list[list[tuple[str, float]]]:
        """The best answers to Q questions.

        Args:
            words: fused, (Q, T, L). mask: (Q, T), True for real tokens.

        Returns:
            Per question at least one answer with its probability, best first.
        """
        raise NotImplementedError


class WritingHead(TaskHead):
    """A task head that writes captions at inference.

    Attributes:
        decoding: how, where an input does not say itself.
    """

    decoding: Decoding

    def write(
        self,
        model: GLIP,
        features: list[torch.Tensor],
        prompts: Sequence[Prompt],
        decoding: Decoding,
    ) -> list[Written]:
        """The captions of B images.

        Args:
            features: pyramid levels (B, C, h, w) before fusion.
            prompts: of each image the beginning, see `Prompt.unwritten`.
        """
        raise NotImplementedError


class RefiningHead(TaskHead):
    """A task head that adds something to each detection at inference (masks).

    Attributes:
        refined_shape: of what is added to one detection; (S, S) of a mask.
    """

    @property
    def refined_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def refine(
        self,
        levels: Sequence[torch.Tensor],
        words: torch.Tensor,
        boxes: Sequence[torch.Tensor],
        tokens: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """What is added to the detections of B pairs of image and prompt.

        Args:
            levels, words: fused, (B, C, h, w) each and (B, T, L).
            boxes: per pair (r, 4), continuous, in pixels of the input.
            tokens: per pair (r, T) bool, the words of each box's class.

        Returns:
            Per pair (r, *refined_shape).
        """
        raise NotImplementedError

    def attach(self, instances: Instances, refined: torch.Tensor) -> None:
        """Set the field of `instances` that `refined`, (n, *refined_shape), belongs to."""
        raise NotImplementedError
