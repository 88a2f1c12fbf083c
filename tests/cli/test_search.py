"""`glip search`, from an index to a table, json and a picture."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from glip_commands.main import main

CONFIG = "tests/support/tiny_contrast.py"


@pytest.fixture(scope="module")
def searched(contrast_weights, module_path):
    """A folder with an index of five images, and the images."""
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(module_path / f"{seed}.png"), pixels)
    options = ["--config-file", CONFIG, "--weights", str(contrast_weights), "--device", "cpu"]
    output = module_path / "index"
    assert main(["index", str(module_path), "--output", str(output), *options]) == 0
    return module_path


@pytest.fixture
def search(searched, capsys):
    """Runs the command; gives its status, what it printed, and the errors."""

    def run(*words, index=searched / "index"):
        status = main(["search", str(index), *map(str, words), "--device", "cpu"])
        return status, *capsys.readouterr()

    return run


def test_a_text(search, tmp_path):
    status, table, _ = search("red kite", "--top", 7, "--sheet", tmp_path / "sheet.png")
    assert status == 0 and len(table.splitlines()) == 7
    report = json.loads(search("red kite", "--top", 7, "--json")[1])
    assert report["text"] == "red kite" and report["box"] is None
    scores = [region["score"] for region in report["regions"]]
    assert scores == sorted(scores, reverse=True)
    for line, region in zip(table.splitlines(), report["regions"]):
        assert line.startswith(f"{region['score']:6.3f}  ") and line.endswith(region["file"])
    assert Image.open(tmp_path / "sheet.png").size == (5 * 248 + 8, 2 * 268 + 8)


def test_a_sheet_replaces_no_other_file(search, searched, tmp_path):
    sheet, photo = tmp_path / "sheet.png", searched / "3.png"
    before = photo.read_bytes()
    assert [search("red kite", "--sheet", sheet)[0] for _ in range(2)] == [0, 0]
    for name, message in (
        (photo, "is no sheet of an earlier search, and would be lost"),
        (tmp_path / "sheet.jpg", "is a PNG file"),
    ):
        status, table, error = search("red kite", "--sheet", name)
        assert (status, table) == (2, "") and message in error
    assert photo.read_bytes() == before and not (tmp_path / "sheet.jpg").exists()


def test_what_has_changed_since_is_told(search, searched, caplog):
    photos = sorted(searched.glob("?.png"))
    before = photos[1].read_bytes()
    search("red kite", "--top", 50)
    assert "changed" not in caplog.text
    try:
        photos[1].write_bytes(photos[2].read_bytes())
        status, table, _ = search("red kite", "--top", 50)
        assert status == 0 and str(photos[1]) in table
        told = f"1 of the images that are found have changed since .*the first: '{photos[1]}'"
        assert re.search(told, caplog.text)
        caplog.clear()
        photos[1].unlink()
        search("red kite", "--top", 50)
        assert re.search(told, caplog.text)
    finally:
        photos[1].write_bytes(before)


def test_a_box_of_an_image(search, searched):
    """A box of the grid: the best is itself."""
    asked = ["--image", searched / "3.png", "--box", "16,12,32,24", "--json"]
    best = json.loads(search(*asked)[1])["regions"][0]
    assert best["file"] == str(searched / "3.png") and best["box"] == [16, 12, 32, 24]
    assert best["score"] == pytest.approx(1, abs=1e-5)


def test_a_text_of_several_phrases_is_looked_at_again(search, searched):
    text = "a cat left of a dog"
    regions = json.loads(search(text, "--json")[1])["regions"]
    files = [region["file"] for region in regions]
    assert len(set(files)) == len(files) == 5  # the best box of each
    assert regions != json.loads(search(text, "--json", "--rerank", 0)[1])["regions"]
    of_one = json.loads(search("cat", "--json", "--rerank", 2)[1])["regions"]
    assert len(of_one) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give what to look for: a text, or --image FILE with --box"),
        (["cat", "--image", "x.png", "--box", "1,2,3,4"], "give what to look for"),
        (["--box", "1,2,3,4"], "give what to look for"),
        (["--image", "x.png", "--box", "1,2,3"], "--box is X1,Y1,X2,Y2 in pixels"),
        (["--image", "x.png", "--box", "1,2,3,4"], "there is no image file 'x.png'"),
        (["--image", "x.png", "--box", "1,2,3,4", "--rerank", "3"], "--rerank is for a text"),
        ([" "], "the text is empty"),
    ],
)
def test_what_cannot_be_sought(search, words, message):
    status, _, errors = search(*words)
    assert status == 2 and message in errors.splitlines()[-1]


def test_an_index_that_is_none(search, tmp_path):
    status, _, errors = search("cat", index=tmp_path)
    assert status == 2 and f"there is no index in '{tmp_path}'" in errors
