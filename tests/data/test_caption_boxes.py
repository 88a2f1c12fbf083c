"""Boxes of captions' phrases: counted, and compared between two sets of labels."""

import pytest

from glipv2_d2.data.caption_boxes import PhraseBoxes, label_changes, label_lines, phrase_boxes
from glipv2_d2.errors import DataError
from tests.support.record_mapping import box

CAPTION = "a Red kite above a dog"
KITE, DOG = [[2, 10]], [[19, 22]]


def record(image_id, *boxes, caption=CAPTION):
    return {"image_id": image_id, "caption": caption, "annotations": list(boxes)}


def test_phrases_and_scores():
    records = [
        record(0, box(0, 0, 9, 9, spans=KITE, score=0.6), box(5, 5, 9, 9, spans=KITE, score=0.2)),
        record(1, box(0, 0, 9, 9, spans=KITE, score=0.4), box(0, 0, 9, 9, spans=DOG, score=0.8)),
        record(2),
        record(3),
    ]
    assert phrase_boxes(records) == [
        PhraseBoxes("red kite", 2, 3, pytest.approx(0.4)),
        PhraseBoxes("dog", 1, 1, 0.8),
    ]
    assert label_lines(records) == [
        "captions without a box: 2 of 4 (50.0%); phrases with boxes per caption: 0 to 2, mean 0.8",
        "different phrases: 2, 1 of them with a single box; most boxes: 'red kite' 3, 'dog' 1",
        "scores: 0.20 to 0.80, median 0.50; above 0.1: 4 boxes, 2 captions; 0.3: 3 boxes, "
        "2 captions; 0.5: 2 boxes, 2 captions; 0.7: 1 boxes, 1 captions; 0.9: 0 boxes, 0 captions",
    ]


def test_boxes_without_scores():
    records = [record(0, box(0, 0, 9, 9, spans=DOG))]
    assert phrase_boxes(records) == [PhraseBoxes("dog", 1, 1, None)]
    assert len(label_lines(records)) == 2
    assert label_lines([record(0)])[0].startswith("captions without a box: 1 of 1 (100.0%)")


def test_changes_of_labels():
    before = [
        record(0, box(0, 0, 10, 10, spans=KITE), box(50, 0, 10, 10, spans=KITE)),
        record(1, box(0, 0, 10, 10, spans=DOG)),
        record(2, box(0, 0, 10, 10, spans=DOG)),
        record(3),
    ]
    after = [
        # The order of boxes is no change; the second is moved by 2 of 10 pixels: an IoU of 0.67.
        record(0, box(52, 0, 10, 10, spans=KITE), box(0, 0, 10, 10, spans=KITE)),
        record(1, box(90, 0, 10, 10, spans=DOG), box(0, 0, 10, 10, spans=KITE)),
        record(2, box(0, 0, 10, 10, spans=DOG)),
        record(3, caption="another"),
    ]
    changes = label_changes(before, after)
    assert dict(changes.phrases["red kite"]) == {"kept": 1, "moved": 1, "gained": 1}
    assert dict(changes.phrases["dog"]) == {"kept": 1, "gained": 1, "lost": 1}
    assert [(new["image_id"], count) for _, new, count in changes.pairs] == [(1, 3), (0, 1), (2, 0)]
    assert changes.lines() == [
        "changes: 3 captions are in both sets, 2 with another label; 1 only in this, 1 only in the "
        "other",
        "boxes: 2 kept, 1 moved, 2 gained, 1 lost",
        "most gained: 'red kite' 1, 'dog' 1",
        "most lost: 'dog' 1",
        "most moved: 'red kite' 1",
    ]


def test_boxes_are_matched_one_to_one():
    """Two boxes on the place of one are one kept and one gained, and the best pairs win."""
    before = [record(0, box(0, 0, 10, 10, spans=DOG))]
    after = [record(0, box(3, 0, 10, 10, spans=DOG), box(0, 0, 10, 10, spans=DOG))]
    assert dict(label_changes(before, after).phrases["dog"]) == {"kept": 1, "gained": 1}
    assert dict(label_changes(after, before).phrases["dog"]) == {"kept": 1, "lost": 1}


def test_sets_of_other_captions_are_refused():
    with pytest.raises(DataError, match="no caption in common .* files of the same names"):
        label_changes([record(0)], [record(1)])
    with pytest.raises(DataError, match="no caption in common"):
        label_changes([record(0)], [{"image_id": 0, "annotations": []}])
