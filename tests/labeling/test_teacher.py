"""The model as a teacher: whole captions, boxes by phrase, and what tells one from another."""

import numpy as np
import pytest

from glipv2_d2.data.report import RecordError
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.errors import ConfigError, UsageError
from glipv2_d2.labeling.teacher import GroundingTeacher, fingerprint
from tests.support.tiny import lively, tiny_model
from tests.support.tiny_understanding import tiny_understanding_model

CONFIG = "tests/support/tiny_detect.py"
CAPTIONS = ["a red star left of the ring", "why?", "a dog " * 200, "the blue ring"]


@pytest.fixture(scope="module")
def finder():
    model = lively(tiny_model(seed=1))
    return GroundingPredictor(model, min_size=64, max_size=96, batch_size=4)


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in CAPTIONS]


def test_phrases_are_found_in_their_caption_and_bad_captions_named(finder, noise):
    star, nothing, long, ring = GroundingTeacher(finder, "rules", 0.1)(noise, CAPTIONS)
    assert star.caption == CAPTIONS[0] and star.phrases == [[2, 10], [23, 27]]
    assert nothing.phrases == nothing.boxes == []
    assert isinstance(long, RecordError) and "the limit is 256" in long.what
    assert ring.phrases == [[4, 13]]
    (whole,) = finder([noise[0]], "a [red star] left of the [ring]", score_threshold=0.1)
    assert len(star.boxes) == len(whole) > 0
    scores = [box[5] for box in star.boxes]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.1
    np.testing.assert_allclose(scores, whole.scores, atol=5e-4)  # rounded to 3 digits
    assert {box[0] for box in star.boxes} <= {0, 1}


def test_an_image_that_cannot_be_used_does_not_stop_its_batch(finder, noise):
    teacher = GroundingTeacher(finder, "rules", 0.1)
    narrow = np.zeros((4000, 1, 3), np.uint8)
    first, bad, second = teacher([noise[0], narrow, noise[3]], ["a star"] * 3)
    assert isinstance(bad, RecordError) and "too narrow" in bad.what
    assert [first, second] == teacher([noise[0], noise[3]], ["a star"] * 2)


def test_the_labels_do_not_depend_on_the_batch(finder, noise):
    teacher = GroundingTeacher(finder, "rules", 0.1)
    alone = [teacher([photo], [text])[0] for photo, text in zip(noise, CAPTIONS)]
    together = teacher(noise, CAPTIONS)
    assert [alone[i] == together[i] for i in (0, 1, 3)] == [True] * 3


def test_a_model_that_writes_captions_labels_its_own(noise):
    writer = GroundingPredictor(tiny_understanding_model(), min_size=64, max_size=96)
    (label,) = GroundingTeacher(writer, "rules", 0.1, recaption=True)(noise[:1], ["a star"])
    assert label.caption == writer.caption(noise[0])[0].caption != "a star"


def test_captions_need_a_head(finder):
    with pytest.raises(ConfigError, match="captions are written by a model with a caption_head"):
        GroundingTeacher(finder, "rules", 0.1, recaption=True)
    with pytest.raises(UsageError, match="unknown noun-phrase extractor 'mine'"):
        GroundingTeacher(finder, "mine", 0.1)


def test_a_teacher_is_told_by_its_weights_and_settings_wherever_they_lie(tiny_weights, tmp_path):
    first = fingerprint(CONFIG, str(tiny_weights), [])
    copy = tmp_path / "tiny.safetensors"
    copy.write_bytes(tiny_weights.read_bytes())
    assert fingerprint(CONFIG, str(copy), []) == first
    assert fingerprint(CONFIG, str(copy), ["inference.min_size=80"])["config"] != first["config"]
    copy.write_bytes(copy.read_bytes() + b" ")
    assert fingerprint(CONFIG, str(copy), [])["weights"] != first["weights"]
