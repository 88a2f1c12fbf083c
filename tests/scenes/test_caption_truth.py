"""Generated captions of two scenes, checked by hand."""

import json

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from glipv2_d2.errors import DataError
from glipv2_d2.language import Prompt
from glipv2_d2.scenes.caption_truth import SceneCaptionEvaluator, entities
from tests.support.tiny_scenes import detection_content

RED, RING = (15, 15, 25, 25), (75, 75, 85, 85)  # of the first scene: star and ring


@pytest.fixture
def evaluator(tmp_path):
    """Of the captions of two pictures: a red star and a blue ring; three green moons."""
    content = detection_content(
        "red star .2 .2, blue ring .8 .8", "green moon .2 .2, green moon .5 .5, green moon .8 .2"
    )
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    MetadataCatalog.get("tiny_truth").set(json_file=str(path), image_root=str(tmp_path))
    size = {"height": 100, "width": 100}
    records = [
        {"file_name": str(tmp_path / f"{i}.jpg"), "image_id": i, "task": "caption", **size}
        for i in (1, 2)
    ]
    DatasetCatalog.register("tiny_captions", lambda: records)
    return SceneCaptionEvaluator("tiny_captions", "tiny_truth", str(tmp_path), distributed=False)


def output(caption, phrases=(), boxes=(), classes=(), scores=()):
    """What the model gives: `phrases` are words of the caption."""
    spans = [[(caption.index(p), caption.index(p) + len(p))] for p in phrases]
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    prompt = Prompt.from_caption(caption, spans, kind="caption")
    return {"caption": caption, "prompt": prompt, "instances": instances}


def measured(evaluator, first, second):
    evaluator.reset()
    evaluator.process([{"image_id": 1}, {"image_id": 2}], [first, second])
    return evaluator.evaluate()["scene_captions"]


def test_what_a_caption_names():
    found = entities("Two red stars, a blue object and the ring of many moons, reddish starfish")
    assert [(e.number, e.color, e.shape) for e in found] == [
        ("two", "red", "star"),
        (None, "blue", None),
        (None, None, "ring"),
        ("many", None, "moon"),
    ]
    assert found[0].span == (0, 13)
    assert [(e.color, e.shape) for e in entities("a red and a green")] == [
        ("red", None),
        ("green", None),
    ]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [  # entities, true ones in percent, whether all is true, whether exactly
        ("a red star and a blue ring", (2, 100, True, True)),
        ("a red star and a red ring", (2, 50, False, False)),
        ("two red stars and a blue ring", (2, 100, True, False)),
        ("a red star left of a blue ring", (2, 100, True, True)),
        ("a red star right of a blue ring", (2, 100, True, False)),
        ("a red star below a white ring", (2, 50, False, False)),
        ("a red star and a moon", (1, 100, False, False)),
        ("a red object", (0, 100, False, False)),
        ("", (0, 100, False, False)),
    ],
)
def test_captions_of_a_scene_by_hand(evaluator, caption, expected):
    """The caption of the other scene, of one entity, is exact."""
    named, present, is_true, is_exact = expected
    numbers = measured(evaluator, output(caption), output("three green moons"))
    assert numbers["entities"] == (named + 1) / 2
    assert numbers["true_entities"] == pytest.approx(
        100 * (named * present / 100 + 1) / (named + 1)
    )
    assert numbers["true_captions"] == 50 * (is_true + 1)
    assert numbers["exact_captions"] == 50 * (is_exact + 1)


def test_the_best_box_of_a_phrase_counts(evaluator, tmp_path):
    text = "a red star and a blue ring"
    phrases = ("a red star", "a blue ring")
    right = output(text, phrases, [RED, RING], [0, 1], [0.9, 0.8])
    moons = output("two green moons", ("green moons",), [(45, 45, 55, 55)], [0], [0.5])
    assert measured(evaluator, right, moons)["entity_R@1"] == 100
    rows = json.loads((tmp_path / "tiny_captions_predictions.json").read_text())
    assert rows[0]["caption"] == text and rows[0]["phrases"][1] == [[[15, 26]], list(RING)]
    swapped = output(text, phrases, [RED, RING, RING, RED], [0, 0, 1, 1], [0.3, 0.9, 0.8, 0.2])
    assert measured(evaluator, swapped, moons)["entity_R@1"] == pytest.approx(200 / 3)
    # An entity without a box is a miss; one that is not in the picture is not asked for.
    assert measured(evaluator, swapped, output("a red star"))["entity_R@1"] == 50
    assert measured(evaluator, output(text), moons)["entity_R@1"] == pytest.approx(100 / 3)


def test_what_does_not_fit_is_named(evaluator, tmp_path):
    nothing = {"instances": output("")["instances"]}
    with pytest.raises(DataError, match="no 'caption'"):
        evaluator.process([{"image_id": 1}], [nothing])
    (tmp_path / "truth.json").write_text(json.dumps(detection_content("red star .5 .5")))
    with pytest.raises(DataError, match=r"'tiny_truth' has no picture.*2\.jpg"):
        SceneCaptionEvaluator("tiny_captions", "tiny_truth")
