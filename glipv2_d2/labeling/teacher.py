"""The model that labels: it finds the noun phrases of captions in their images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from detectron2.structures import Instances
from omegaconf import OmegaConf

from ..checkpoint import is_export
from ..config import apply_overrides, get_config
from ..data.report import RecordError
from ..engine.predictor import GroundingPredictor
from ..errors import ConfigError, PromptError, UserError
from ..language.noun_phrases import caption_phrases, noun_phrase_extractor
from ..language.prompt import Prompt

__all__ = ["GroundingTeacher", "LabeledText", "Teacher", "fingerprint"]


class LabeledText(NamedTuple):
    """What a teacher finds in an image: fields of `LabeledPair`."""

    caption: str
    phrases: list[list[int]]
    boxes: list[list[Any]]


class Teacher(Protocol):
    """Labels images with captions.

    Attributes:
        batch_size: how many it takes together.
    """

    batch_size: int

    def __call__(
        self, images: Sequence[np.ndarray], captions: Sequence[str]
    ) -> list[LabeledText | RecordError]:
        """Find the phrases of each caption in its image, (H, W, 3) uint8 BGR; an error where the
        pair cannot be labeled."""
        ...


class GroundingTeacher:
    """A GLIP or GLIPv2 that is shown whole captions.

    The text around a phrase tells which of several things is meant, which is why a student can
    become better than its teacher (GLIP, Section 3.3). Boxes of one phrase are suppressed by the
    model's own NMS; boxes of several phrases are not compared.

    Args:
        predictor: the model.
        phrases: back end that finds the noun phrases, see `noun_phrase_extractor`.
        threshold: boxes that score less are left out.
        recaption: the model writes the caption itself, and its phrases are labeled (CLOC's VESL).

    Raises:
        UsageError: there is no such back end.
        ConfigError: `recaption`, and the model has no `caption_head`.
    """

    def __init__(
        self, predictor: GroundingPredictor, phrases: str, threshold: float, recaption: bool = False
    ):
        if recaption and getattr(predictor.glip, "caption_head", None) is None:
            raise ConfigError("captions are written by a model with a caption_head")
        self.predictor = predictor
        self.batch_size = predictor.batch_size
        self.extractor = noun_phrase_extractor(phrases)
        self.threshold = threshold
        self.recaption = recaption

    def __call__(
        self, images: Sequence[np.ndarray], captions: Sequence[str]
    ) -> list[LabeledText | RecordError]:
        try:
            return self._together(images, captions)
        except UserError as error:
            if len(images) == 1:
                return [RecordError("unusable image", "image", str(error))]
        return [label for pair in zip(images, captions) for label in self([pair[0]], [pair[1]])]

    def _together(
        self, images: Sequence[np.ndarray], captions: Sequence[str]
    ) -> list[LabeledText | RecordError]:
        if self.recaption:
            written = self.predictor.caption(images, score_threshold=1.0, masks=False)
            captions = [result.caption for result in written]
        asked = [self._prompt(caption) for caption in captions]
        prompts = {i: prompt for i, prompt in enumerate(asked) if isinstance(prompt, Prompt)}
        found: dict[int, Instances] = {}
        if prompts:
            instances = self.predictor(
                [images[i] for i in prompts],
                [[prompt] for prompt in prompts.values()],
                score_threshold=self.threshold,
                merge_iou=1.0,
                masks=False,
            )
            found = dict(zip(prompts, instances))
        return [
            prompt
            if isinstance(prompt, RecordError)
            else LabeledText(caption, _spans(prompt), _boxes(found[i]) if i in found else [])
            for i, (caption, prompt) in enumerate(zip(captions, asked))
        ]

    def _prompt(self, caption: str) -> Prompt | RecordError | None:
        """The caption with its phrases; None: it has none; or why it cannot be asked."""
        try:
            spans = caption_phrases(caption, self.extractor)
            if not spans:
                return None
            prompt = Prompt.from_caption(caption, [[span] for span in spans])
            self.predictor.glip.tokenizer([prompt])
        except PromptError as error:
            return RecordError("unusable caption", "caption", str(error))
        return prompt


def _spans(prompt: Prompt | None) -> list[list[int]]:
    return [] if prompt is None else [list(span) for (span,) in prompt.spans]


def _boxes(found: Instances) -> list[list[Any]]:
    """`LabeledPair.boxes`, rounded, since the last bits of a float depend on the batch and on the
    machine, and sorted by what is left."""
    fields = found.pred_classes, found.pred_boxes.tensor, found.scores
    boxes = [
        [phrase, *(round(x, 1) for x in box), round(score, 3)]
        for phrase, box, score in zip(*(field.tolist() for field in fields))
    ]
    return sorted(boxes, key=lambda box: (-box[5], box[:5]))


def fingerprint(config: str, weights: str, overrides: Sequence[str]) -> dict[str, str]:
    """What tells one teacher from another, wherever their files lie; of json's types."""
    cfg = apply_overrides(get_config(config), overrides)
    parts = [OmegaConf.to_container(cfg[key]) for key in ("model", "inference") if key in cfg]
    text = json.dumps(
        parts, sort_keys=True, default=lambda part: getattr(part, "__qualname__", str(part))
    )
    digest = hashlib.sha256()
    files = [Path(weights)]
    if is_export(weights):  # its runtime may have been imported from there
        within = sorted(path for path in Path(weights).rglob("*") if path.is_file())
        files = [path for path in within if "__pycache__" not in path.parts]
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return {
        "config": f"{Path(config).name} {hashlib.sha256(text.encode()).hexdigest()[:16]}",
        "weights": f"{Path(weights).name} {digest.hexdigest()[:16]}",
        "version": version("glipv2_d2"),
    }
