"""`glip ask`, from the question to the report."""

import json
import re

import cv2
import numpy as np
import pytest

from glip_commands.main import main
from glipv2_d2.engine.predictor import GroundingPredictor
from tests.support.tiny_understanding import ANSWERS

CONFIG = "tests/support/tiny_understanding.py"
QUESTION = "what color is the [star]?"


@pytest.fixture
def odd_photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a=1 %s?.png", "\N{CAT FACE}.png"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (32, 40, 3), dtype=np.uint8))
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    return folder


@pytest.fixture
def ask(understanding_weights):
    def run(*words):
        return main(
            [
                "ask",
                *map(str, words),
                "--config-file",
                CONFIG,
                "--weights",
                str(understanding_weights),
            ]
        )

    return run


def test_a_folder(ask, odd_photos, understanding_weights, tmp_path, capsys):
    output = tmp_path / "out"
    assert ask(odd_photos, QUESTION, "--output", output, "--batch-size", 2) == 1
    printed = capsys.readouterr()
    assert "broken.png" in printed.err and "1 of 3 images failed" in printed.err
    report = json.loads((output / "answers.json").read_text())
    assert report["question"] == QUESTION and report["threshold"] == 0.1
    predictor = GroundingPredictor.from_config(CONFIG, understanding_weights, device="cpu")
    for image in report["images"]:
        (expected,) = predictor.answer(image["file"], QUESTION)
        assert image["answer"] == expected.answer and image["answers"][0][0] == expected.answer
        assert f"{image['file']}: {expected.answer}\n" in printed.out
        assert (output / image["picture"]).is_file()
        of_image = [d for d in report["detections"] if d["file"] == image["file"]]
        assert [d["phrase"] for d in of_image] == ["star", expected.answer]
        assert image["detections"] == 2 and "mask" in of_image[0]
    assert [f["file"] for f in report["failed"]] == [str(odd_photos / "broken.png")]

    # Only what failed is tried again.
    assert ask(odd_photos, QUESTION, "--output", output) == 1
    assert "2 of 3 images are done already" in capsys.readouterr().out
    assert ask(odd_photos, "is it?", "--output", output) == 1
    assert "another question" in capsys.readouterr().out


def test_the_report_alone_is_printed(ask, odd_photos, capsys):
    (odd_photos / "broken.png").unlink()
    assert ask(odd_photos, "what is it?", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [image["picture"] for image in report["images"]] == [None, None]
    assert all(image["answer"] in ANSWERS for image in report["images"])
    assert list(odd_photos.parent.iterdir()) == [odd_photos]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{photo}", "{photo}"], "the question comes last, and '.*' is a file or folder"),
        (["{photo}", " "], "the question is empty"),
        (["{photo}", "what is the [star?"], r"'\[' without '\]'"),
        (["{photo}", "what " * 300], "303 tokens, the limit is 256: shorten the question"),
        (["none.png", QUESTION], "there is no image or folder 'none.png'"),
        ([QUESTION], "no image is given, only the question 'what .*, which comes last"),
        (["{photo}"], "the question comes last, and '.*' is a file or folder"),
        (["{photo}", QUESTION, "inference.shortlist=2"], "comes last, and .* a value for the con"),
        (["model.chunk_size=2", QUESTION], "no image is given"),
        (
            ["{photo}", QUESTION, "--threshold", "35"],
            r"phrase_threshold must be a number in \[0, 1",
        ),
        (["{photo}", QUESTION, "--phrases", "none"], "unknown noun-phrase extractor 'none'"),
    ],
)
def test_what_cannot_be_asked(ask, odd_photos, capsys, words, message):
    photo = str(odd_photos / "\N{CAT FACE}.png")
    assert ask(*(word.replace("{photo}", photo) for word in words)) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out
    assert re.search(message, printed.err)


def test_a_model_that_answers_nothing(tiny_weights, odd_photos, capsys):
    options = ["--config-file", "tests/support/tiny_detect.py", "--weights", str(tiny_weights)]
    assert main(["ask", str(odd_photos), QUESTION, *options]) == 2
    assert "model.vqa_head" in capsys.readouterr().err
