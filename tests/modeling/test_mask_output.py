"""Detections scaled to the output, and masks pasted later: as Detectron2 does both at once."""

import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks

from glipv2_d2.errors import UserError
from glipv2_d2.modeling import mask_output
from glipv2_d2.modeling.mask_output import paste_masks, postprocess, rescale

OUTPUT = {"height": 80, "width": 150}


def found(boxes=((3, 4, 40, 30), (100, 10, 110, 20), (20.5, 0, 60, 40)), seed=0):
    """On an input of 40 x 60; the second box is outside of it, and dropped."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    generator = torch.Generator().manual_seed(seed)
    return Instances(
        (40, 60),
        pred_boxes=Boxes(boxes),
        scores=torch.arange(len(boxes)) / 10,
        pred_masks=ROIMasks(torch.rand(len(boxes), 14, 14, generator=generator)),
    )


def test_small_masks_pasted_later_are_those_of_detectron2():
    expected = detector_postprocess(found(), 80, 150)
    given = found()
    small = rescale(given, OUTPUT)
    assert torch.equal(given.pred_boxes.tensor, found().pred_boxes.tensor)
    assert isinstance(small.pred_masks, ROIMasks)
    assert torch.equal(small.pred_masks.tensor, found().pred_masks.tensor[[0, 2]])
    assert set(small.get_fields()) == set(expected.get_fields())
    pasted = paste_masks(small)
    assert expected.pred_masks.shape == (2, 80, 150) and expected.pred_masks.any(2).any(1).all()
    for result in (pasted, paste_masks(pasted), postprocess(found(), OUTPUT)):
        assert torch.equal(result.pred_masks, expected.pred_masks)
        assert torch.equal(result.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(result.scores, expected.scores)
    assert isinstance(small.pred_masks, ROIMasks)  # the small ones are as they were


def test_nothing_found():
    pasted = postprocess(found(()), OUTPUT)
    assert pasted.pred_masks.shape == (0, 80, 150) and pasted.pred_masks.dtype == torch.bool


def test_without_masks_and_in_the_size_of_the_input():
    plain = found()
    plain.remove("pred_masks")
    result = postprocess(plain, {})
    assert set(result.get_fields()) == {"pred_boxes", "scores"} and len(result) == 2
    assert result.image_size == (40, 60) and paste_masks(result) is result


def test_masks_that_the_memory_cannot_hold_are_refused(monkeypatch):
    """Before they are made: a machine that runs out of memory ends the process without a word."""
    small = rescale(found(), OUTPUT)
    monkeypatch.setattr(mask_output, "_memory", lambda: 2 * 2 * 80 * 150)
    assert paste_masks(small).pred_masks.shape == (2, 80, 150)  # half of it, exactly
    monkeypatch.setattr(mask_output, "_memory", lambda: 2 * 2 * 80 * 150 - 1)
    with pytest.raises(UserError, match="2 masks of 150x80 pixels .*masks=False"):
        paste_masks(small)


def test_masks_are_pasted_where_python_does_not_tell_the_memory(monkeypatch):
    monkeypatch.delattr(mask_output.os, "sysconf", raising=False)
    assert paste_masks(rescale(found(), OUTPUT)).pred_masks.shape == (2, 80, 150)
