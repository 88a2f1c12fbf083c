"""Records as pictures: boxes and words in the same colors."""

import numpy as np
from PIL import Image

from glipv2_d2.cli.inspection import (
    contact_sheet,
    draw_record,
)
from glipv2_d2.cli.inspection.drawing import COLORS
from tests.support.record_mapping import box


def gray(tmp_path, **fields):
    Image.new("RGB", (200, 100), (128, 128, 128)).save(tmp_path / "a.png")
    base = {"file_name": str(tmp_path / "a.png"), "height": 100, "width": 200, "image_id": 1}
    return {**base, **fields}


def colors_below(picture, top):
    pixels = np.asarray(picture)[top:].reshape(-1, 3)
    return {tuple(int(v) for v in pixel) for pixel in np.unique(pixels, axis=0)}


def test_words_have_the_colors_of_their_boxes(tmp_path):
    record = gray(
        tmp_path,
        caption="a red star near a ring " + "and so on " * 30,
        annotations=[
            box(10, 10, 50, 50, spans=[[2, 10]]),
            box(100, 20, 50, 50, spans=[[18, 22]]),
        ],
    )
    picture = draw_record(record, size=400)
    assert picture.width == 400 and picture.height > 200 + 5 * 26  # wrapped
    pixels = np.asarray(picture)
    assert tuple(pixels[100, 20]) == COLORS[0]  # the left edge of the first box, scaled by two
    assert tuple(pixels[100, 200]) == COLORS[1]
    below = colors_below(picture, 200)
    assert {COLORS[0], COLORS[1], (0, 0, 0)} <= below and COLORS[2] not in below


def test_detections_crowds_and_empty_images(tmp_path):
    annotations = [
        box(10, 10, 50, 50, category_id=1),
        box(100, 20, 50, 50, category_id=1, iscrowd=1),
    ]
    picture = draw_record(gray(tmp_path, annotations=annotations), ["cat", "dog"], size=400)
    pixels = np.asarray(picture)
    assert tuple(pixels[100, 20]) == COLORS[0]
    assert tuple(pixels[100, 200]) == (110, 110, 110)
    assert COLORS[0] in colors_below(picture, 200)
    empty = draw_record(gray(tmp_path, annotations=[]), ["cat"], size=400)
    assert COLORS[0] not in colors_below(empty, 0)
    narrow = gray(tmp_path, annotations=[], caption="漢字 and Café")
    Image.new("L", (1, 300)).save(narrow["file_name"])
    assert draw_record(narrow, size=300).size[0] >= 300


def test_a_question_with_its_answers_and_captions_to_compare_with(tmp_path):
    """Gray below the picture, each on its line or behind the question."""
    asked = gray(tmp_path, caption="why?", task="question", answers={"so": 1.0, "no": 0.3})
    picture = np.asarray(draw_record(asked, size=400))[230:]
    assert (picture == (110, 110, 110)).all(axis=-1).any()
    unwritten = gray(tmp_path, task="caption", references=["a star " * 20, "a red star"])
    assert draw_record(unwritten, size=400).height > draw_record(asked, size=400).height
    assert draw_record(gray(tmp_path, task="caption"), size=400).height > 200


def test_a_contact_sheet_keeps_the_shape_of_each_picture():
    tall, wide = (Image.new("RGB", size, "red") for size in ((100, 300), (300, 100)))
    sheet = contact_sheet([tall, wide, wide], columns=2, width=30)
    assert sheet.size == (2 * 30 + 3 * 10, 90 + 10 + 3 * 10)  # a margin of 10 around each
    assert sheet.getpixel((11, 99)) == sheet.getpixel((51, 19)) == (255, 0, 0)
    assert sheet.getpixel((51, 25)) == sheet.getpixel((45, 15)) == (255, 255, 255)
