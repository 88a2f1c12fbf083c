"""The forms of masks: pasted by Detectron2, small, none."""

import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks
from torch import nn

from glipv2_d2.modeling.mask_output import masks_as, paste_masks, to_output_size


def found(boxes=((3, 4, 40, 30), (100, 10, 110, 20), (20.5, 0, 60, 40)), seed=0):
    """On an input of 40 x 60; the second box is outside of it, and dropped."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    generator = torch.Generator().manual_seed(seed)
    return Instances(
        (40, 60),
        pred_boxes=Boxes(boxes),
        scores=torch.arange(len(boxes)) / 10,
        pred_masks=torch.rand(len(boxes), 1, 14, 14, generator=generator),
    )


def test_small_masks_pasted_later_are_those_of_detectron2():
    expected = detector_postprocess(found(), 80, 150)
    small = to_output_size(found(), 80, 150, "roi")
    assert isinstance(small.pred_masks, ROIMasks)
    assert torch.equal(small.pred_masks.tensor, found().pred_masks[[0, 2], 0])
    assert set(small.get_fields()) == set(expected.get_fields())
    pasted = paste_masks(small)
    assert expected.pred_masks.shape == (2, 80, 150) and expected.pred_masks.any(2).any(1).all()
    for result in (pasted, paste_masks(pasted), to_output_size(found(), 80, 150)):
        assert torch.equal(result.pred_masks, expected.pred_masks)
        assert torch.equal(result.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(result.scores, expected.scores)
    assert isinstance(small.pred_masks, ROIMasks)  # the small ones are as they were


def test_nothing_found():
    pasted = paste_masks(to_output_size(found(()), 80, 150, "roi"))
    assert pasted.pred_masks.shape == (0, 80, 150) and pasted.pred_masks.dtype == torch.bool


def test_without_masks():
    result = to_output_size(found(), 80, 150, None)
    assert set(result.get_fields()) == {"pred_boxes", "scores"} and len(result) == 2
    assert paste_masks(result) is result


def test_the_form_holds_within_the_context():
    model = nn.Identity()
    with masks_as(model, "roi"):
        assert not hasattr(model, "mask_form")  # a model without a choice
    model.mask_form = "image"
    with pytest.raises(RuntimeError), masks_as(model, "roi"):
        assert model.mask_form == "roi"
        raise RuntimeError
    assert model.mask_form == "image"
    model.mask_form = None
    with masks_as(model, "roi"):
        assert model.mask_form is None  # whoever wants no masks gets none
    with pytest.raises(ValueError, match="must be one of.*'box'"), masks_as(model, "box"):
        pass
