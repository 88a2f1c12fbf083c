"""Flickr30k recall on hand-worked captions, from the folder of Flickr30k Entities and the json."""

import json

import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import Flickr30kEvaluator
from tests.support.benchmark_predictions import evaluate, instances, record, registered

CAPTIONS = ("Two young guys see nothing of a hat .", "It is a street .", "The guys")
LEFT, RIGHT, AROUND = (1, 1, 41, 41), (101, 1, 141, 41), (1, 1, 141, 41)
FAR = (0, 100, 30, 130)


def captions():
    """The records that MDETR's json gives: only phrases with boxes are asked for."""
    guys, hat = ((0, 14),), ((30, 35),)
    common = {"original_img_id": 77}
    boxes = [(LEFT, 0), (RIGHT, 0), (LEFT, 1)]
    return [
        record(50, boxes, CAPTIONS[0], (guys, hat), sentence_id=0, **common),
        record(51, [], CAPTIONS[1], (), sentence_id=1, **common),
        record(52, [(LEFT, 0), (RIGHT, 0)], CAPTIONS[2], (((4, 8),),), sentence_id=2, **common),
    ]


# The first caption: its "guys" are found at the second rank (right one), its hat never at all;
# boxes of a sentence without phrases are ignored; the third caption has no prediction.
OUTPUTS = {
    50: instances([RIGHT, FAR, FAR, FAR], [0.6, 0.9, 0.8, 0.7], [0, 0, 1, 1]),
    51: instances([LEFT], [0.9], [4]),
    52: instances([], []),
}


def test_any_box_with_categories(entities):
    with registered("f30k", captions(), "flickr30k", entities_dir=str(entities)):
        results = evaluate(Flickr30kEvaluator("f30k", distributed=False), OUTPUTS)
    rows = {
        "": (0, 100 / 3, 100 / 3, 100 / 3),
        "-people": (0, 50, 50, 50),
        "-animals": (0, 100, 100, 100),
        "-clothing": (0, 0, 0, 0),
    }
    metrics = ("R@1", "R@5", "R@10", "upper_bound")
    assert results["flickr30k_any"] == {
        metric + category: pytest.approx(value)
        for category, values in rows.items()
        for metric, value in zip(metrics, values)
    }


@pytest.mark.parametrize("with_folder", [True, False])
def test_merged_box(entities, with_folder):
    """The box around both guys is (1, 1, 141, 41): one of them is 2/7 of it."""
    folder = {"entities_dir": str(entities)} if with_folder else {}
    outputs = {**OUTPUTS, 52: instances([LEFT, AROUND], [0.9, 0.8])}
    with registered("f30k", captions(), "flickr30k", flickr_boxes="merged", **folder):
        merged = evaluate(Flickr30kEvaluator("f30k", distributed=False), outputs)
        separate = evaluate(Flickr30kEvaluator("f30k", distributed=False, boxes="any"), outputs)
    assert merged["flickr30k_merged"]["R@1"] == 0
    assert merged["flickr30k_merged"]["R@5"] == pytest.approx(100 / 3)
    assert separate["flickr30k_any"]["R@1"] == pytest.approx(100 / 3)
    assert separate["flickr30k_any"]["R@5"] == pytest.approx(200 / 3)
    assert ("R@1-people" in merged["flickr30k_merged"]) == with_folder


def test_ranks_are_those_of_the_phrase(entities):
    """Hits at rank 1, 5, 6, 10 and 11, whatever other phrases' boxes score; IoU 0.5 is enough."""
    half = (1, 1, 41, 21)  # IoU with LEFT exactly 0.5
    records, outputs = [], {}
    for number, misses in enumerate((0, 4, 5, 9, 10)):
        phrases = (((0, 5),), ((6, 11),))
        records.append(record(number, [(LEFT, 0), (FAR, 1)], "white horse", phrases))
        boxes = [FAR] * misses + [half] + [FAR]
        scores = [0.9 - 0.01 * k for k in range(misses)] + [0.5, 0.99]
        outputs[number] = instances(boxes, scores, [0] * (misses + 1) + [1])
    with registered("ranks", records, "flickr30k"):
        results = evaluate(Flickr30kEvaluator("ranks", distributed=False), outputs)
    # Five phrases "white" with the hits above, five phrases "horse" that are hit at once.
    assert results["flickr30k_any"] == {
        "R@1": pytest.approx(60),
        "R@5": pytest.approx(70),
        "R@10": pytest.approx(90),
        "upper_bound": pytest.approx(100),
    }


def test_phrases_without_a_box_do_not_count(caplog):
    records = [record(1, [(LEFT, 0)], "white horse", (((0, 5),), ((6, 11),)))]
    with registered("boxless", records, "flickr30k"):
        results = evaluate(
            Flickr30kEvaluator("boxless", distributed=False), {1: instances([LEFT], [0.5], [0])}
        )
    assert results["flickr30k_any"]["R@1"] == 100
    assert "1 phrases have no box" in caplog.text
    assert "entities_dir (no place is named)" in caplog.text


def test_predictions_are_dumped_by_rank(entities, tmp_path):
    with registered("f30k", captions(), "flickr30k", entities_dir=str(entities)):
        evaluate(Flickr30kEvaluator("f30k", str(tmp_path), distributed=False), OUTPUTS)
    rows = json.loads((tmp_path / "f30k_predictions.json").read_text())
    assert [row["image_id"] for row in rows] == [50, 51, 52]
    assert rows[0]["sentence_id"] == 0
    assert rows[0]["scores"] == [0.9, 0.8, 0.7, 0.6]
    assert rows[0]["phrases"] == [0, 1, 1, 0]
    assert rows[0]["boxes"][3] == list(map(float, RIGHT))


def test_disagreements_are_named(entities, tmp_path):
    def build(records, **options):
        with registered("f30k_bad", records, "flickr30k"):
            return Flickr30kEvaluator("f30k_bad", distributed=False, **options)

    folder = {"entities_dir": str(entities)}
    moved = captions()
    moved[2]["sentence_id"] = 1
    with pytest.raises(DataError, match=r"caption 52 \(image 77.*\[\] in Flickr30k Entities"):
        build(moved, **folder)
    moved[2]["sentence_id"] = 3
    with pytest.raises(DataError, match="sentence 3.*has 3 sentences"):
        build(moved, **folder)
    moved[2].update(sentence_id=2, original_img_id=78)
    with pytest.raises(DataError, match=r"no file '.*78.xml'.*entities_dir"):
        build(moved, **folder)
    del moved[2]["phrases"]
    with pytest.raises(DataError, match="image 52 does not say which phrases"):
        build(moved)
    with pytest.raises(ValueError, match="boxes must be one of"):
        build(captions(), boxes="some")
    with (
        registered("f30k", captions(), "flickr30k"),
        pytest.raises(DataError, match="for phrase 2, but the record asks for 2"),
    ):
        evaluate(Flickr30kEvaluator("f30k", distributed=False), {50: instances([LEFT], [0.5], [2])})
