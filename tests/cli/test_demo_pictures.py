"""What the demo draws."""

from pathlib import Path

import pytest
from PIL import Image

from glipv2_d2.cli.demo_pictures import best_phrases, show_pictures
from glipv2_d2.engine import GroundingPredictor
from tests.support.tiny_understanding import tiny_understanding_model


def test_best_phrase_of_overlapping_results():
    results = [
        {"image_id": 1, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.4, "category_id": 1},
        {"image_id": 1, "bbox": [0.0, 0.0, 10.0, 11.0], "score": 0.6, "category_id": 2},
        {"image_id": 2, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.3, "category_id": 1},
    ]
    kept = best_phrases(results, 0.7)
    assert [(r["image_id"], r["category_id"]) for r in kept] == [(1, 2), (2, 1)]


@pytest.fixture(scope="module")
def demo_predictor():
    model = tiny_understanding_model()
    return GroundingPredictor(model, min_size=64, max_size=96, score_threshold=0.5, merge_iou=0.5)


def test_pictures_of_four_tasks(scenes, demo_predictor, tmp_path):
    (tmp_path / "old").mkdir()
    names = {key: f"scenes_{key}" for key in ("val", "val_vqa_grounding", "val_grounded_caption")}
    shown = show_pictures(demo_predictor, names, tmp_path)
    assert set(shown) == {"names", "caption", "questions", "captions"}
    assert [len(shown[key]) for key in ("names", "caption", "captions")] == [4, 1, 4]
    pictures = [picture for kind in shown.values() for picture in kind]
    assert len({picture.path for picture in pictures}) == len(pictures)
    for path, _ in pictures:
        Image.open(tmp_path / path).verify()
    assert not (tmp_path / "old").exists()


def test_a_question_of_each_type_with_its_answer(scenes, demo_predictor, tmp_path):
    shown = show_pictures(
        demo_predictor, {"val_vqa_grounding": "scenes_val_vqa_grounding"}, tmp_path
    )
    kinds = [Path(picture.path).parent.name for picture in shown["questions"]]
    assert kinds == sorted(set(kinds)) and len(kinds) > 1
    for _, text in shown["questions"]:
        assert "? " in text and text.endswith(")") and "(true: " in text and "[MASK]" not in text


def test_a_model_without_these_heads_shows_names_and_a_caption(scenes, demo_predictor, tmp_path):
    assert set(show_pictures(demo_predictor, {"val": "scenes_val"}, tmp_path)) == {
        "names",
        "caption",
    }
