"""In which form masks leave the model.

A bool per pixel of the image and detection, Detectron2's form, is too much where thousands of
detections of an image are kept (fixed AP on LVIS: 9,300, 2.7 GiB at 480x640). Detectron2 has a
structure for the small masks that a head predicts: ROIMasks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances, ROIMasks
from torch import nn

__all__ = ["MASK_FORMS", "masks_as", "paste_masks", "to_output_size"]

# (n, H, W) bool, pasted into the image; ROIMasks, within the boxes; not even computed.
MASK_FORMS = ("image", "roi", None)


@contextmanager
def masks_as(model: nn.Module, form: str | None) -> Iterator[None]:
    """Within this context `model` gives its masks in another form.

    Args:
        model: nothing happens to one without `mask_form` (see `GLIP`), or that is to give none.
        form: one of MASK_FORMS.

    Raises:
        ValueError: another form.
    """
    if form not in MASK_FORMS:
        raise ValueError(f"the form of masks must be one of {MASK_FORMS}, got {form!r}")
    if getattr(model, "mask_form", None) is None:
        yield
        return
    before = model.mask_form
    model.mask_form = form
    try:
        yield
    finally:
        model.mask_form = before


def to_output_size(
    instances: Instances, height: int, width: int, mask_form: str | None = "image"
) -> Instances:
    """`detector_postprocess`, with `pred_masks` in the form asked for.

    Args:
        instances: in pixels of the model's input; `pred_masks` (n, 1, S, S), if there are any.
    """
    if mask_form == "image" or not instances.has("pred_masks"):
        return detector_postprocess(instances, height, width)
    fields = dict(instances.get_fields())
    masks = fields.pop("pred_masks")
    rows = torch.arange(len(masks), device=masks.device)
    result = detector_postprocess(
        Instances(instances.image_size, **fields, mask_rows=rows), height, width
    )
    if mask_form == "roi":  # of the boxes that are left: empty ones are dropped
        result.pred_masks = ROIMasks(masks[result.mask_rows, 0])
    result.remove("mask_rows")
    return result


def paste_masks(instances: Instances) -> Instances:
    """`instances` with ROIMasks pasted into the image: `pred_masks` (n, H, W) bool."""
    if instances.has("pred_masks") and isinstance(instances.pred_masks, ROIMasks):
        pasted = instances.pred_masks.to_bitmasks(instances.pred_boxes, *instances.image_size)
        instances = Instances(instances.image_size, **instances.get_fields())
        instances.pred_masks = pasted.tensor.bool()  # without any they come as numbers
    return instances
