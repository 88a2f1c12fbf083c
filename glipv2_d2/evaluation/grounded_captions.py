"""Grounded captioning: are the words of a generated caption right, and are their boxes?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou

from ..errors import DataError
from ..language.spans import Span, find_phrase, phrase_key, phrase_text
from ..language.word_lists import ARTICLES
from .build import EVALUATORS
from .caption_tokens import tokenize_caption
from .captions import CaptionEvaluator
from .collect import Results
from .record_evaluator import Record, true_box
from .tables import Table

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "knives": "knife", "wolves": "wolf", "leaves": "leaf",
    "shelves": "shelf", "scarves": "scarf", "buses": "bus", "potatoes": "potato",
    "tomatoes": "tomato",
}  # fmt: skip


class WrittenPhrase(NamedTuple):
    """A phrase of a generated caption.

    Attributes:
        spans: its characters.
        word: its object word, see `object_word`.
        box: the best one, x0, y0, x1, y1 in pixels; None: nothing was found.
        score: of the box; 0 without.
    """

    spans: list[Span]
    word: str
    box: list[float] | None
    score: float


class ReferencePhrase(NamedTuple):
    """A phrase of a reference caption: its text without article, its object word, (M, 4) boxes."""

    text: str
    word: str
    boxes: torch.Tensor


class Reference(NamedTuple):
    """A reference caption: its phrases that have boxes, and all its words as `singular`."""

    phrases: list[ReferencePhrase]
    words: set[str]


@EVALUATORS.register()
class GroundedCaptionEvaluator(CaptionEvaluator):
    """Computes how often the phrases of generated captions are right and rightly grounded.

    * `R@1`: of the reference phrases that occur in the generated caption (without their article,
      whatever the case), the share whose best box overlaps a true box with IoU >= 0.5. An image
      counts each phrase once, though several references have it. `occurring`: the share of all
      reference phrases that occur.
    * `F1_all` and `F1_loc` of Zhou et al. (Grounded Video Description, CVPR 2019), by the rules of
      the authors' `eval_grd_flickr30k_entities.py`: for each object word, a generated word is right
      if it is in the reference caption and its box overlaps the true box with IoU > 0.5. Precision
      and recall are averaged over all object words of the references; `F1_loc` counts only words
      that are in both captions. A generated object word without a box in the reference is no
      mistake where the reference has the word all the same. There, the object words are a list of
      480 nouns for Flickr30k; here, the last word of each phrase, in the singular.
    * the metrics of `CaptionEvaluator`.

    A phrase with several boxes is hit by any of them; with MDETR's mergedGT files there is one.

    Args:
        dataset_name: a registered data set of `load_mdetr_images`.
        output_dir, distributed, java: see `CaptionEvaluator`.

    Raises:
        DataError: no reference caption has a phrase with a box.

    Returns (`evaluate`):
        `{"caption": {...}, "grounded_caption": {"R@1", "occurring", "F1_all", "F1_loc"}}` in
        percent.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        java: bool | None = None,
    ):
        super().__init__(dataset_name, output_dir, distributed, java=java)
        self._truth = [
            [_reference(caption) for caption in record.get("grounded_references", ())]
            for record in self.records
        ]
        if not any(known.phrases for image in self._truth for known in image):
            raise DataError(
                f"data set {dataset_name!r} has no reference caption with boxes: register it with "
                "the format 'mdetr_images'"
            )

    def caption_of(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Return the caption, and its phrases each with the best box."""
        prompt, instances = output["prompt"], output["instances"]
        order = instances.scores.argsort(descending=True, stable=True).tolist()
        classes = instances.pred_classes.tolist()
        best = {classes[i]: i for i in reversed(order)}  # the highest score is the last to stay
        boxes, scores = instances.pred_boxes.tensor.tolist(), instances.scores.tolist()
        phrases = []
        for index, spans in enumerate(prompt.spans):
            i = best.get(index)
            found = (None, 0.0) if i is None else (boxes[i], scores[i])
            word = object_word(phrase_text(prompt.caption, spans))
            phrases.append(WrittenPhrase(list(spans), word, *found))
        return {"caption": output["caption"], "phrases": phrases}

    def as_row(self, prediction: dict[str, Any]) -> Record:
        """Return what is written to the file: boxes are x0, y0, x1, y1 in pixels, null: none."""
        phrases = [
            {
                "spans": phrase.spans,
                "box": phrase.box and np.round(phrase.box, 2).tolist(),
                "score": round(phrase.score, 5),
            }
            for phrase in prediction["phrases"]
        ]
        return {**prediction, "phrases": phrases}

    def score_records(self, predictions: list[dict[str, Any]]) -> Results:
        """Compute the metrics; see the class."""
        results = super().score_records(predictions)
        captions = [prediction["caption"] for prediction in predictions]
        written = [prediction["phrases"] for prediction in predictions]
        found = [row for image in zip(captions, written, self._truth) for row in _occurring(*image)]
        hits = [hit for hit in found if hit is not None]
        metrics = {
            "R@1": 100 * float(np.mean(hits)) if hits else 0.0,
            "occurring": 100 * len(hits) / len(found),
            "F1_all": 100 * object_f1(written, self._truth, only_written=False),
            "F1_loc": 100 * object_f1(written, self._truth, only_written=True),
        }
        title = f"grounded captions of {len(captions)} images of {self.dataset_name}"
        self.log_tables(
            Table(title, ["phrases", *metrics], [[len(found), *map(float, metrics.values())]])
        )
        return {**results, "grounded_caption": metrics}


def object_word(phrase: str) -> str:
    """Return the last word of a phrase in the singular: "two yellow circles" is "circle"."""
    words = tokenize_caption(phrase)
    return singular(words[-1]) if words else ""


def singular(word: str) -> str:
    """Return the singular of an English noun by rules that suit captions; other words as they are
    or cut alike, which is enough for comparing them."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def object_f1(
    written: Sequence[Sequence[WrittenPhrase]],
    truth: Sequence[Sequence[Reference]],
    only_written: bool,
) -> float:
    """Compute F1 over object words, 0 to 1, by the rules of Zhou et al.; see the class.

    Args:
        written: the phrases of the generated caption of each image.
        truth: the reference captions of each image.
        only_written: count only the words that are in both captions (F1_loc).
    """
    precision: dict[str, list[bool]] = defaultdict(list)
    recall: dict[str, list[bool]] = defaultdict(list)
    for phrases, references in zip(written, truth, strict=True):
        first_written = _first(phrases)
        for reference in references:
            known = _first(reference.phrases)
            for phrase in phrases:
                if phrase.word in known:
                    hit = _overlaps(phrase.box, known[phrase.word].boxes, strictly=True)
                    precision[phrase.word].append(hit)
                elif phrase.word not in reference.words and not only_written:
                    precision[phrase.word].append(False)
            for named in reference.phrases:
                mine = first_written.get(named.word)
                if mine is not None:
                    recall[named.word].append(_overlaps(mine.box, named.boxes, strictly=True))
                elif not only_written:
                    recall[named.word].append(False)
    words = {named.word for image in truth for known in image for named in known.phrases}
    p, r = (
        sum(float(np.mean(hits[word])) for word in words if word in hits) / len(words)
        for hits in (precision, recall)
    )
    return 2 * p * r / (p + r) if p + r else 0.0


def _first(phrases: Iterable[Any]) -> dict[str, Any]:
    """Object word -> the first of the phrases that has it."""
    found: dict[str, Any] = {}
    for phrase in phrases:
        found.setdefault(phrase.word, phrase)
    return found


def _overlaps(box: list[float] | None, boxes: torch.Tensor, strictly: bool = False) -> bool:
    if box is None:
        return False
    iou = box_iou(torch.tensor([box], dtype=torch.float64), boxes)
    return bool((iou > 0.5).any() if strictly else (iou >= 0.5).any())


def _occurring(
    caption: str, written: Sequence[WrittenPhrase], references: Sequence[Reference]
) -> Iterator[bool | None]:
    """Of each distinct phrase of the references whether it is hit; None: it does not occur."""
    boxes: dict[str, list[torch.Tensor]] = defaultdict(list)
    for reference in references:
        for phrase in reference.phrases:
            boxes[phrase.text].append(phrase.boxes)
    for text, true in boxes.items():
        place = find_phrase(caption, text)
        if place is None:
            yield None
            continue
        there = [w for w in written if any(s < place[1] and place[0] < e for s, e in w.spans)]
        best = max(there, key=lambda phrase: phrase.score, default=None)
        yield best is not None and _overlaps(best.box, torch.cat(true))


def _reference(record: Mapping[str, Any]) -> Reference:
    boxes: dict[Span, list[list[float]]] = defaultdict(list)
    for annotation in record["annotations"]:
        for span in phrase_key(annotation["spans"]):
            boxes[span].append(true_box(annotation))
    phrases = []
    for span, true in sorted(boxes.items()):
        text = phrase_text(record["caption"], [span]).lower()
        first, _, rest = text.partition(" ")
        bare = rest if first in ARTICLES and rest else text
        tensor = torch.tensor(true, dtype=torch.float64)
        phrases.append(ReferencePhrase(bare, object_word(text), tensor))
    return Reference(phrases, {singular(word) for word in tokenize_caption(record["caption"])})
