"""Labels in every script, or said."""

import logging
import warnings

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from matplotlib import font_manager

from glipv2_d2.cli.detection import drawing
from glipv2_d2.cli.detection.drawing import draw, draw_frame
from glipv2_d2.engine.results import colored_words
from glipv2_d2.language import Prompt
from glipv2_d2.language.phrase_list import PhraseList
from glipv2_d2.language.prompt_text import read_question

GRAY = np.full((64, 80, 3), 100, np.uint8)


@pytest.fixture(autouse=True)
def matplotlibs_own_fonts(monkeypatch):
    """Fonts that every machine has: DejaVu, which lacks watches and Chinese, and STIX."""
    entries = font_manager.fontManager.ttflist
    own = [entry for entry in entries if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    caches = (drawing._warn, drawing._fonts, drawing._installed_fonts)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def picture(phrase, class_id=0):
    """The label at its corner of the picture."""
    found = Instances((64, 80))
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 70.0, 60.0]]))
    found.scores = torch.tensor([0.9])
    found.pred_classes = torch.tensor([class_id])
    found.pred_phrases = PhraseList([phrase])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph 32418 missing from font(s)"
        return draw(GRAY, found)


@pytest.mark.parametrize("phrase", ["a $ b $\\frac{$", "$x^2$", "$", "50$ note"])
def test_dollar_signs_are_dollar_signs(phrase):
    image = picture(phrase)
    assert image.shape == (512, 640, 3)
    assert not np.array_equal(image, picture(phrase.replace("$", "")))


def test_characters_come_from_any_font_that_has_them(caplog):
    assert drawing._fonts("\N{WATCH} watch") == (("STIXGeneral",), frozenset())
    watch, hourglass = picture("\N{WATCH}"), picture("\N{BENZENE RING}")
    assert not caplog.records and not np.array_equal(watch, hourglass)


def test_a_name_that_no_font_has_is_labeled_by_its_class_and_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        chinese = picture("红心", 7)
        picture("红心", 7)
    (record,) = caplog.records
    assert "'红心'" in record.getMessage() and "labeled #7" in record.getMessage()
    np.testing.assert_array_equal(chinese, picture("#7", 7))


def test_variation_selectors_have_no_shape_of_their_own(caplog):
    heart = picture("\N{HEAVY BLACK HEART}\N{VARIATION SELECTOR-16}")
    np.testing.assert_array_equal(heart, picture("\N{HEAVY BLACK HEART}"))
    assert not caplog.records


def boxes_of(*classes):
    """Instances of these classes."""
    found = Instances((64, 80))
    found.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 70.0, 60.0]] * len(classes)).view(-1, 4))
    found.scores = torch.full((len(classes),), 0.9)
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    found.pred_phrases = PhraseList(["x"] * len(classes))
    return found


def strip(*text):
    """What stands below a picture."""
    return drawing._written(text, 640)


def color(class_id):
    return tuple(round(255 * value) for value in drawing._bright_color(class_id))


def test_the_hole_of_a_mask_is_not_painted():
    pixels = np.full((640, 640, 3), 120, np.uint8)
    y, x = np.mgrid[:640, :640]
    distance = np.hypot(y - 300, x - 300)
    found = Instances((640, 640), pred_boxes=Boxes(torch.tensor([[100.0, 100, 500, 500]])))
    found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([0])
    found.pred_phrases = PhraseList(["ring"])
    found.pred_masks = torch.from_numpy((distance < 200) & (distance > 80))[None]
    picture = draw(pixels, found)
    assert (picture[300, 300] == 120).all() and not (picture[300, 440] == 120).all()


@pytest.mark.parametrize("bottom", [60, 199])
def test_boxes_in_one_place_have_their_labels_below_each_other(bottom):
    pixels = np.full((200, 640, 3), 120, np.uint8)
    box = [40, bottom - 20, 80, bottom]

    def label_pixels(count):
        found = Instances(pixels.shape[:2], pred_boxes=Boxes(torch.tensor([box] * count).float()))
        found.scores, found.pred_classes = torch.full((count,), 0.5), torch.arange(count)
        found.pred_phrases = PhraseList(["cat"] * count)
        entries = [{"box": box, "phrase": "cat", "class_id": i, "score": 0.5} for i in range(count)]
        pictures = draw(pixels, found), draw_frame(pixels, entries)
        return np.array([(picture < 50).all(axis=2).sum() for picture in pictures])

    assert (label_pixels(3) > 2.7 * label_pixels(1)).all()


def test_text_stands_below_the_picture():
    line = [("cat", 0)]
    image = draw(GRAY, boxes_of(0), [line])
    np.testing.assert_array_equal(image[:512], draw(GRAY, boxes_of(0)))
    np.testing.assert_array_equal(image[512:], strip(line))


def test_words_have_the_color_of_their_boxes():
    caption = Prompt.from_caption("a cat sees a dog.", [[(2, 5)], [(13, 16)]], kind="caption")
    line = colored_words(caption, boxes_of(0, 1))
    assert line == [("a ", None), ("cat", 0), (" sees a ", None), ("dog", 1), (".", None)]
    found = set(map(tuple, strip(line).reshape(-1, 3).tolist()))
    assert {(255, 255, 255), color(0), color(1)} <= found and color(2) not in found
    assert colored_words(caption, boxes_of(1))[0] == ("a cat sees a ", None)
    assert colored_words(Prompt.unwritten(), boxes_of()) == []


def test_the_mark_of_an_open_answer_is_not_written():
    question = read_question("where is the cat?", ground_answer=True)
    line = colored_words(question, boxes_of(0, 1))
    assert line == [("where is the ", None), ("cat", 0), ("?", None)]


def test_lines_are_broken_between_words_and_where_a_word_is_too_long():
    heights = [len(strip([(text, None)])) for text in ("cat", "cat " * 60, "c" * 240, "cat" * 5)]
    one_line, words, letters, short = heights
    assert words > one_line and letters > one_line and short == one_line
    two = strip([("cat", None)], [("dog", 0)])
    assert one_line < len(two) < words
    right = strip([("cat " * 60, None)])[:, -5:]
    assert not right.any()  # nothing runs over the edge


def test_text_without_a_font_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        chinese = strip([("红心?", None)])
    assert "no font" in caplog.text and "'红心?'" in caplog.text
    np.testing.assert_array_equal(chinese, strip([("???", None)]))
    assert strip([("\N{WATCH}", None)]).any()
