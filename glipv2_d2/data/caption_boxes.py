"""Which boxes the phrases of captions have, and how two sets of labels of the same captions differ.

For pseudo labels above all, whose boxes have scores; any records with captions will do.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from scipy.optimize import linear_sum_assignment

from ..errors import DataError, printable
from ..language.spans import Span, phrase_key, phrase_text
from .report import Record

__all__ = ["LabelChanges", "PhraseBoxes", "label_changes", "label_lines", "phrase_boxes"]

# Of a box that was kept, and of one that moved; with less overlap it is another box.
KEPT_IOU, MOVED_IOU = 0.9, 0.5
THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


class PhraseBoxes(NamedTuple):
    """How often a phrase occurs with boxes; `score` is their mean, None where they have none."""

    phrase: str
    captions: int
    boxes: int
    score: float | None


def phrase_boxes(records: Sequence[Record]) -> list[PhraseBoxes]:
    """The phrases that have boxes, in small letters, those of most boxes first."""
    captions: Counter[str] = Counter()
    scores: dict[str, list[float | None]] = defaultdict(list)
    for record in records:
        for key, boxes in _by_phrase(record).items():
            phrase = _text(record, key)
            captions[phrase] += 1
            scores[phrase] += [annotation.get("score") for annotation in boxes]
    found = []
    for phrase, values in scores.items():
        known = [value for value in values if value is not None]
        score = statistics.fmean(known) if known else None
        found.append(PhraseBoxes(phrase, captions[phrase], len(values), score))
    return sorted(found, key=lambda entry: (-entry.boxes, entry.phrase))


def label_lines(records: Sequence[Record], most: int = 10) -> list[str]:
    """For people: captions without a box, phrases per caption, the most frequent phrases, and what
    a loader keeps that screens by the score.

    Args:
        records: checked records with captions, one at least.
        most: so many phrases are named.
    """
    per_caption = [len(_by_phrase(record)) for record in records]
    empty = per_caption.count(0)
    lines = [
        f"captions without a box: {empty} of {len(records)} ({empty / len(records):.1%}); phrases "
        f"with boxes per caption: {min(per_caption)} to {max(per_caption)}, mean "
        f"{statistics.fmean(per_caption):.1f}"
    ]
    phrases = phrase_boxes(records)
    if phrases:
        told = ", ".join(f"{entry.phrase!r} {entry.boxes}" for entry in phrases[:most])
        once = sum(entry.boxes == 1 for entry in phrases)
        lines.append(
            f"different phrases: {len(phrases)}, {once} of them with a single box; most boxes: "
            f"{printable(told)}"
        )
    best = [max(scores) for record in records if (scores := box_scores([record]))]
    if scores := box_scores(records):
        kept = "; ".join(
            f"{t:g}: {sum(s > t for s in scores)} boxes, {sum(s > t for s in best)} captions"
            for t in THRESHOLDS
        )
        lines.append(
            f"scores: {min(scores):.2f} to {max(scores):.2f}, median "
            f"{statistics.median(scores):.2f}; above {kept}"
        )
    return lines


def box_scores(records: Sequence[Record]) -> list[float]:
    """The scores of all boxes that have one."""
    return [a["score"] for r in records for a in r.get("annotations", ()) if "score" in a]


@dataclass
class LabelChanges:
    """What became of the boxes of captions.

    Attributes:
        pairs: (before, after, number of boxes that moved or are in one of both) of each caption
            that both sets have; most changes first.
        phrases: phrase in small letters -> how many of its boxes were "kept", "moved", "gained"
            and "lost".
        only_before, only_after: captions that one of the sets has.
    """

    pairs: list[tuple[Record, Record, int]] = field(default_factory=list)
    phrases: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    only_before: int = 0
    only_after: int = 0

    def lines(self, most: int = 10) -> list[str]:
        """For people; `most` phrases are named of each kind."""
        total = sum(self.phrases.values(), Counter[str]())
        counts = ", ".join(f"{total[kind]} {kind}" for kind in ("kept", "moved", "gained", "lost"))
        changed = sum(count > 0 for _, _, count in self.pairs)
        lines = [
            f"changes: {len(self.pairs)} captions are in both sets, {changed} with another label; "
            f"{self.only_after} only in this, {self.only_before} only in the other",
            f"boxes: {counts}",
        ]
        for kind in ("gained", "lost", "moved"):
            counted = Counter({phrase: c[kind] for phrase, c in self.phrases.items() if c[kind]})
            told = ", ".join(f"{phrase!r} {count}" for phrase, count in counted.most_common(most))
            lines += [f"most {kind}: {printable(told)}"] if told else []
        return lines


def label_changes(before: Sequence[Record], after: Sequence[Record]) -> LabelChanges:
    """Compare two sets of boxes for the same captions.

    A caption is the same where `image_id` and text are. Of a phrase the boxes of both sets are
    matched one to one by the best sum of IoU: a pair is kept from 0.9 on and moved from 0.5 on.

    Raises:
        DataError: the sets have no caption in common.
    """
    result = LabelChanges()
    old = {(r["image_id"], r["caption"]): r for r in before if "caption" in r}
    new = {(r["image_id"], r["caption"]): r for r in after if "caption" in r}
    result.only_before = len(old.keys() - new.keys())
    result.only_after = len(new.keys() - old.keys())
    for key in [key for key in new if key in old]:
        changes: Counter[str] = Counter()
        was, now = _by_phrase(old[key]), _by_phrase(new[key])
        for spans in {**was, **now}:
            of_phrase = _box_changes(was.get(spans, []), now.get(spans, []))
            result.phrases[_text(new[key], spans)] += of_phrase
            changes += of_phrase
        result.pairs.append((old[key], new[key], changes.total() - changes["kept"]))
    if not result.pairs:
        raise DataError(
            "the two sets have no caption in common (the same image_id and text): changes are told "
            "of labels of the same image-text pairs, in files of the same names"
        )
    result.pairs.sort(key=lambda pair: (-pair[2], str(pair[1]["image_id"])))
    return result


def _by_phrase(record: Record) -> dict[tuple[Span, ...], list[Record]]:
    """spans of a phrase -> its annotations."""
    found: dict[tuple[Span, ...], list[Record]] = {}
    for annotation in record.get("annotations", ()):
        found.setdefault(phrase_key(annotation["spans"]), []).append(annotation)
    return found


def _text(record: Record, spans: Sequence[Span]) -> str:
    return phrase_text(record["caption"], spans).lower()


def _box_changes(before: Sequence[Record], after: Sequence[Record]) -> Counter[str]:
    """What became of the boxes of one phrase in one image."""
    overlaps = pairwise_iou(_boxes(before), _boxes(after))
    pairs = overlaps[linear_sum_assignment(overlaps.numpy(), maximize=True)]
    kept = int((pairs >= KEPT_IOU).sum())
    moved = int((pairs >= MOVED_IOU).sum()) - kept
    same = kept + moved
    return Counter(kept=kept, moved=moved, gained=len(after) - same, lost=len(before) - same)


def _boxes(annotations: Sequence[Record]) -> Boxes:
    corners = [
        BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
    ]
    return Boxes(torch.tensor(corners, dtype=torch.float32).reshape(-1, 4))
