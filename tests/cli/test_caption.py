"""`glip caption`, from the options to the report."""

import json

import cv2
import numpy as np
import pytest

from glip_commands.main import main
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.modeling.generation import Decoding

CONFIG = "tests/support/tiny_understanding.py"


@pytest.fixture
def two_photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (32, 40, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def caption(understanding_weights):
    weights = ["--config-file", CONFIG, "--weights", str(understanding_weights)]
    return lambda *words: main(["caption", *map(str, words), *weights])


def test_a_folder(caption, two_photos, understanding_weights, tmp_path, capsys):
    output = tmp_path / "out"
    assert caption(two_photos, "--output", output, "--batch-size", 2) == 0
    report = json.loads((output / "captions.json").read_text())
    assert report["decoding"]["max_length"] == 6  # the model's own
    predictor = GroundingPredictor.from_config(CONFIG, understanding_weights, device="cpu")
    printed = capsys.readouterr().out
    for image in report["images"]:
        (expected,) = predictor.caption(image["file"])
        assert image["caption"] == expected.caption
        assert image["caption_score"] == pytest.approx(expected.score, abs=1e-3)
        assert f"{image['file']}: {expected.caption}\n" in printed
        assert (output / image["picture"]).is_file()
        phrases = [d["phrase"] for d in report["detections"] if d["file"] == image["file"]]
        assert phrases == list(expected.instances.pred_phrases)
    assert sorted(path.name for path in output.iterdir()) == ["a.jpg", "b.jpg", "captions.json"]


def test_how_it_is_written(caption, two_photos, understanding_weights, capsys):
    options = ["--beginning", "a", "--max-length", 3, "--top-p", 0.9, "--seed", 7, "--json"]
    assert caption(two_photos / "a.png", *options) == 0
    report = json.loads(capsys.readouterr().out)
    decoding = Decoding(beam_size=1, max_length=3, top_p=0.9, seed=7)
    assert Decoding(**report["decoding"]) == decoding and report["beginning"] == "a"
    predictor = GroundingPredictor.from_config(CONFIG, understanding_weights, device="cpu")
    (expected,) = predictor.caption(two_photos / "a.png", "a", decoding=decoding)
    assert report["images"][0]["caption"] == expected.caption


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--beam-size", 0], "beam_size must"),
        (["--top-p", 0.9, "--beam-size", 3], "beam_size must be 1 for sampling"),
        (["--max-length", 0], "max_length must"),
        (["--max-length", 300], "set a smaller max_length"),
        (["--seed", 7], "seed is for sampling: give top_p, too"),
        (["--beginning", " "], "give a caption or an empty text"),
    ],
)
def test_what_cannot_be_written(caption, two_photos, capsys, words, message):
    assert caption(two_photos, *words) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_a_model_that_writes_nothing(tiny_weights, two_photos, capsys):
    options = ["--config-file", "tests/support/tiny_detect.py", "--weights", str(tiny_weights)]
    assert main(["caption", str(two_photos), *options]) == 2
    assert "model.caption_head" in capsys.readouterr().err
