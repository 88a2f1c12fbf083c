"""Flickr30k Entities: recall of the boxes to which the phrases of a caption are grounded."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from torchvision.ops import box_iou

from ..errors import DataError
from ..language.spans import phrase_key, phrase_text
from .build import EVALUATORS
from .collect import Results
from .flickr30k_entities import read_entity_boxes, read_sentences
from .record_evaluator import Record, RecordEvaluator, benchmark_files, true_box
from .tables import Table

BOX_RULES = ("any", "merged")
# name of the metric: how many of the best boxes may be tried, None for all of them
RANKS = {"R@1": 1, "R@5": 5, "R@10": 10, "upper_bound": None}
ALL = "all"


class TruePhrase(NamedTuple):
    """What a phrase stands for: (M, 4) float64 boxes x0, y0, x1, y1 and its coarse categories."""

    boxes: np.ndarray
    categories: tuple[str, ...]


@EVALUATORS.register()
class Flickr30kEvaluator(RecordEvaluator):
    """Computes Recall@1, @5, @10 and the upper bound (all boxes) over phrases and per category.

    A phrase is hit at k if one of its k best boxes overlaps a true box with IoU >= 0.5. With
    `boxes="any"` (MDETR's any-box protocol, which GLIP and GLIPv2 report) any of a phrase's
    boxes will do; with `"merged"` (Plummer et al.) they are replaced by the box around them.
    Phrases without a true box do not count; a phrase without a predicted box is a miss.

    The rules are those of MDETR's `Flickr30kEntitiesRecallEvaluator`, which GLIP's repository
    copies. With `entities_dir` the ground truth and the categories (people, clothing, ...) come
    from the folder of Flickr30k Entities, as there. Without it they come from the annotations of
    the json; then there are no categories, and of boxes of a caption with an IoU above 0.95 the
    json holds one only, so that a hit at the threshold may differ.

    Args:
        dataset_name: a registered data set in MDETR's format. Its records have `phrases` (the
            json's `tokens_positive_eval`) in the order of the model's phrases.
        output_dir, distributed: see `RecordEvaluator`.
        boxes: `"any"` or `"merged"`; default: `flickr_boxes` of the metadata, or "any".
        entities_dir: with `Annotations/*.xml` and `Sentences/*.txt`; default: `entities_dir`
            of the metadata, if it is there.

    Raises:
        DataError: a record without `phrases`, or the files of Flickr30k Entities are missing or
            name other phrases.

    Returns (`evaluate`):
        `{"flickr30k_any": {"R@1", "R@5", "R@10", "upper_bound", "R@1-people", ...}}` in percent.
    """

    boxes_only = True  # masks need not be computed

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        boxes: str | None = None,
        entities_dir: str | None = None,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        for record in self.records:
            if "phrases" not in record:
                raise DataError(
                    f"data set {dataset_name!r}: image {record['image_id']!r} does not say which "
                    "phrases to ground: the json's images need 'tokens_positive_eval'"
                )
        metadata = MetadataCatalog.get(dataset_name)
        self.boxes = boxes or metadata.get("flickr_boxes", "any")
        if self.boxes not in BOX_RULES:
            raise ValueError(f"boxes must be one of {BOX_RULES}, got {self.boxes!r}")
        entities_dir = benchmark_files(
            entities_dir,
            dataset_name,
            "entities_dir",
            "boxes come from the json and there are no phrase categories",
        )
        if entities_dir:
            truth = _truth_of_entities(self.records, entities_dir)
        else:
            truth = [_truth_of_annotations(record) for record in self.records]
        self._truth = [[self._ruled(phrase) for phrase in phrases] for phrases in truth]
        boxless = sum(not len(p.boxes) for phrases in self._truth for p in phrases)
        if boxless:
            logging.getLogger(__name__).warning(
                "%s: %d phrases have no box and do not count", dataset_name, boxless
            )

    def _ruled(self, phrase: TruePhrase) -> TruePhrase:
        if self.boxes == "any" or len(phrase.boxes) < 2:
            return phrase
        low, high = phrase.boxes[:, :2].min(axis=0), phrase.boxes[:, 2:].max(axis=0)
        return phrase._replace(boxes=np.concatenate([low, high])[None])

    def score_records(self, predictions: list[dict[str, np.ndarray]]) -> Results:
        """Compute the recall over the phrases; see the class."""
        hits: dict[str, list[list[bool]]] = defaultdict(list)
        for phrases, prediction in zip(self._truth, predictions):
            for index, phrase in enumerate(phrases):
                if not len(phrase.boxes):
                    continue
                mine = torch.from_numpy(prediction["boxes"][prediction["phrases"] == index])
                found = (box_iou(mine, torch.from_numpy(phrase.boxes)) >= 0.5).any(dim=1)
                row = [bool(found[:k].any()) for k in RANKS.values()]
                for category in (ALL, *phrase.categories):
                    hits[category].append(row)
        if not hits:
            raise DataError(f"data set {self.dataset_name!r} has no phrase with a box")
        recalls = {name: 100 * np.mean(rows, axis=0) for name, rows in hits.items()}
        rows = [[name, len(hits[name]), *recalls[name]] for name in sorted(recalls)]
        title = f"Flickr30k, {self.boxes} box, {self.dataset_name}"
        self.log_tables(Table(title, ["category", "phrases", *RANKS], rows))
        results = dict(zip(RANKS, map(float, recalls.pop(ALL))))
        for category in sorted(recalls):
            for metric, value in zip(RANKS, recalls[category]):
                results[f"{metric}-{category}"] = float(value)
        return {f"flickr30k_{self.boxes}": results}


def _truth_of_annotations(record: Record) -> list[TruePhrase]:
    """A phrase's boxes are the annotations that name one of its spans."""
    by_span: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
    for annotation in record.get("annotations", []):
        for span in phrase_key(annotation["spans"]):
            by_span[span].append(true_box(annotation))
    truth = []
    for spans in record["phrases"]:
        boxes = [box for span in phrase_key(spans) for box in by_span[span]]
        truth.append(TruePhrase(np.array(boxes, dtype=np.float64).reshape(-1, 4), ()))
    return truth


def _truth_of_entities(records: Sequence[Record], folder: str) -> list[list[TruePhrase]]:
    images: dict[str, tuple] = {}
    truth = []
    for record in records:
        image = str(record.get("original_img_id"))
        if image not in images:
            images[image] = (read_entity_boxes(folder, image), read_sentences(folder, image))
        truth.append(_phrases_of_sentence(record, *images[image]))
    return truth


def _phrases_of_sentence(record: Record, boxes: dict, sentences: list) -> list[TruePhrase]:
    place = (
        f"caption {record['image_id']!r} (image {record.get('original_img_id')!r}, "
        f"sentence {record.get('sentence_id')!r})"
    )
    number = record.get("sentence_id")
    if number is None or not 0 <= int(number) < len(sentences):
        raise DataError(f"{place}: Flickr30k Entities has {len(sentences)} sentences for the image")
    named = [phrase for phrase in sentences[int(number)] if phrase.entity in boxes]
    asked = [phrase_text(record["caption"], spans) for spans in record["phrases"]]
    if asked != [phrase.text for phrase in named]:
        raise DataError(
            f"{place}: the phrases with boxes are {[p.text for p in named]} in Flickr30k Entities, "
            f"but {asked} in tokens_positive_eval. Do the json and the folder belong together?"
        )
    return [
        TruePhrase(np.array(boxes[phrase.entity], dtype=np.float64), phrase.categories)
        for phrase in named
    ]
