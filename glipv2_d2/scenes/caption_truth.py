"""Checks what generated captions say of scenes: the objects, their numbers, places and boxes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from torchvision.ops import box_convert, box_iou

from ..data.datasets.scenes import COLORS, SHAPES
from ..errors import DataError
from ..evaluation.collect import Results
from ..evaluation.record_evaluator import RecordEvaluator
from ..language.spans import Span
from .captions import NUMBERS, PLURALS
from .relations import RELATIONS, holds
from .truth import Scene, scenes_of

__all__ = ["Entity", "SceneCaptionEvaluator", "entities"]

# Every noun -> the shape that it names.
_NOUNS = {"object": None, "objects": None} | {shape: shape for shape in SHAPES}
_NOUNS |= {plural: shape for shape, plural in PLURALS.items()}
_COUNTED = {word: number for number, word in NUMBERS.items() if number > 1}
_ENTITY = re.compile(
    rf"(?:\b({'|'.join([*_COUNTED, 'many'])}) )?"
    rf"\b(?:({'|'.join(COLORS)})\b(?: ({'|'.join(_NOUNS)})\b)?|({'|'.join(_NOUNS)})\b)"
)
_BETWEEN = re.compile(rf"\s*({'|'.join(RELATIONS)})(?: an?| the)?\s*")


class Entity(NamedTuple):
    """Something that a caption names.

    Attributes:
        number: "two", "three", "four" or "many"; None: one, or not said.
        color, shape: None: not said.
        span: [start, end) characters, with the number.
    """

    number: str | None
    color: str | None
    shape: str | None
    span: Span

    def number_is_right(self, count: int) -> bool:
        """Whether the number fits so many things; "a red star" fits two red stars too."""
        if self.number == "many":
            return count > max(_COUNTED.values())
        return count == _COUNTED.get(self.number or "", count)


def entities(caption: str) -> list[Entity]:
    """What a caption names, in its order: "two red stars", "a blue object", "the ring"."""
    return [
        Entity(match[1], match[2], _NOUNS.get(match[3] or match[4]), match.span())
        for match in _ENTITY.finditer(caption.lower())
    ]


class _Checked(NamedTuple):
    """Of one caption: the entities of color and shape, those in the picture, and whether all is."""

    named: int
    present: int
    is_true: bool
    is_exact: bool


def _check(caption: str, scene: Scene) -> _Checked:
    found = entities(caption)
    members = [scene.where(entity.color, entity.shape) for entity in found]
    whole = [bool(m) for entity, m in zip(found, members) if entity.color and entity.shape]
    is_true = bool(whole) and all(members)
    counted = all(entity.number_is_right(len(m)) for entity, m in zip(found, members))
    placed = all(_related(caption, scene, found, members))
    return _Checked(len(whole), sum(whole), is_true, is_true and counted and placed)


def _related(
    caption: str, scene: Scene, found: list[Entity], members: list[list[int]]
) -> Iterator[bool]:
    """Whether each relation between two neighboring entities is not plainly wrong."""
    for k in range(len(found) - 1):
        between = caption.lower()[found[k].span[1] : found[k + 1].span[0]]
        if match := _BETWEEN.fullmatch(between):
            pairs = ((i, j) for i in members[k] for j in members[k + 1] if i != j)
            centers = ((scene.things[i].center, scene.things[j].center) for i, j in pairs)
            yield any(holds(a, match[1], b) is not False for a, b in centers)


class SceneCaptionEvaluator(RecordEvaluator):
    """Checks generated captions of scenes against the scenes.

    An entity is a color with a shape ("two red stars"). Captions of few entities are easily true:
    report `entities` with the rest.

    Args:
        dataset_name: captions to be written, one record an image.
        truth: the registered scenes of the same pictures, "scenes_val" or "scenes_novel".
        output_dir, distributed: see `RecordEvaluator`.

    Raises:
        DataError: a picture that `truth` does not have, or an output without "caption".

    Returns (`evaluate`):
        `{"scene_captions": {...}}`: `entities`, the mean number in a caption; and in percent
        `true_entities` (in the picture), `true_captions` (all that is named is in the picture, and
        an entity is named), `exact_captions` (numbers are right too, and no relation is plainly
        wrong), `entity_R@1` (of the entities in the picture: the best box of their phrase overlaps
        such an object, IoU >= 0.5).
    """

    boxes_only = True  # masks need not be computed

    def __init__(
        self,
        dataset_name: str,
        truth: str,
        output_dir: str | None = None,
        distributed: bool = True,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        known = _scenes_by_file(truth)
        for record in self.records:
            if record["file_name"] not in known:
                raise DataError(f"{truth!r} has no picture {record['file_name']!r}")
        self.scenes = [known[record["file_name"]] for record in self.records]

    def add_output(self, image_id: Hashable, output: Mapping[str, Any]) -> None:
        """Keep the caption and the best box of each of its phrases."""
        if not isinstance(output.get("caption"), str):
            raise DataError(
                f"image {image_id!r}: the model's output has no 'caption'. Has the model a caption "
                "head, and the record task='caption' and no caption of its own?"
            )
        self._predictions[image_id] = {
            "caption": output["caption"],
            "phrases": list(_best_boxes(output)),
        }

    def as_row(self, prediction: dict[str, Any]) -> dict[str, Any]:
        """Return what is written to the file for one record."""
        return prediction

    def score_records(self, predictions: list[dict[str, Any]]) -> Results:
        """Compute the metrics; see the class."""
        checked = [_check(p["caption"], s) for p, s in zip(predictions, self.scenes)]
        hits = [hit for p, s in zip(predictions, self.scenes) for hit in _hits(p, s)]
        named = sum(c.named for c in checked)
        metrics = {
            "entities": named / len(checked),
            "true_entities": 100 * sum(c.present for c in checked) / named if named else 0.0,
            "true_captions": 100 * float(np.mean([c.is_true for c in checked])),
            "exact_captions": 100 * float(np.mean([c.is_exact for c in checked])),
            "entity_R@1": 100 * float(np.mean(hits)) if hits else 0.0,
        }
        self.log_metrics(f"captions of {self.dataset_name}", metrics)
        return {"scene_captions": metrics}


def _scenes_by_file(truth: str) -> dict[str, Scene]:
    metadata = MetadataCatalog.get(truth)
    content = json.loads(Path(metadata.json_file).read_text(encoding="utf-8"))
    scenes = scenes_of(content)
    return {os.path.join(metadata.image_root, s.image["file_name"]): s for s in scenes}


def _best_boxes(output: Mapping[str, Any]) -> Iterator[tuple[list[Span], list[float]]]:
    """(spans, box) of each phrase of the caption for which there is a box."""
    instances = output["instances"]
    order = instances.scores.argsort(descending=True, stable=True)
    classes = instances.pred_classes[order]
    for index, spans in enumerate(output["prompt"].spans):
        mine = order[classes == index]
        if len(mine):
            yield [tuple(s) for s in spans], instances.pred_boxes.tensor[mine[0]].tolist()


def _hits(prediction: dict[str, Any], scene: Scene) -> Iterator[bool]:
    """Whether the phrase of each entity in the picture has its best box at such an object."""
    for entity in entities(prediction["caption"]):
        members = scene.where(entity.color, entity.shape)
        if not (entity.color and entity.shape and members):
            continue
        true = torch.tensor([scene.annotations[i]["bbox"] for i in members])
        mine = [box for spans, box in prediction["phrases"] if _overlap(spans, entity.span)]
        boxes = torch.tensor(mine).reshape(-1, 4)
        yield bool((box_iou(boxes, box_convert(true, "xywh", "xyxy")) >= 0.5).any())


def _overlap(spans: list[Span], span: Span) -> bool:
    return any(start < span[1] and span[0] < end for start, end in spans)
