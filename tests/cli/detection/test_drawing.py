"""Labels in every script, or said."""

import logging
import warnings

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from matplotlib import font_manager

from glipv2_d2.cli.detection import drawing
from glipv2_d2.cli.detection.drawing import draw
from glipv2_d2.language.phrase_list import PhraseList

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
