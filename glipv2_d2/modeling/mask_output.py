"""Detections in the size of the output, and their masks pasted into the image.

A bool per pixel of the image and detection, Detectron2's form, is too much where thousands of
detections of an image are kept (fixed AP on LVIS: 9,300, 2.7 GiB at 480x640): so the two are two
steps, with Detectron2's structure for the small masks that a head predicts, ROIMasks, in between.
"""

import os
import sys

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances, ROIMasks

from ..errors import UserError

__all__ = ["paste_masks", "postprocess", "rescale"]


def postprocess(instances: Instances, batched_input: dict) -> Instances:
    """Detections in the output's size, with their masks pasted into it.

    Args:
        instances: in pixels of the model's input.
        batched_input: see `rescale`.
    """
    return paste_masks(rescale(instances, batched_input))


def rescale(instances: Instances, batched_input: dict) -> Instances:
    """`detector_postprocess` that keeps ROIMasks as they are; `instances` stays unchanged.

    Args:
        instances: in pixels of the model's input.
        batched_input: its "height" and "width" are the output's; default: the model's input's.
    """
    height, width = instances.image_size
    height, width = batched_input.get("height", height), batched_input.get("width", width)
    fields = {**instances.get_fields(), "pred_boxes": instances.pred_boxes.clone()}
    masks = fields.pop("pred_masks", None)
    rows = torch.arange(len(instances), device=instances.pred_boxes.device)
    result = detector_postprocess(
        Instances(instances.image_size, **fields, rows=rows), height, width
    )
    if masks is not None:  # of the boxes that are left: empty ones are dropped
        result.pred_masks = masks[result.rows]
    result.remove("rows")
    return result


def paste_masks(instances: Instances) -> Instances:
    """`instances` with ROIMasks pasted into the image: `pred_masks` (n, H, W) bool.

    Raises:
        UserError: they would take more than half of the machine's memory, as thousands of things
            in a large image shown in tiles do. The system would end the process without a word.
    """
    if instances.has("pred_masks") and isinstance(instances.pred_masks, ROIMasks):
        _check_memory(len(instances), *instances.image_size)
        pasted = instances.pred_masks.to_bitmasks(instances.pred_boxes, *instances.image_size)
        instances = Instances(instances.image_size, **instances.get_fields())
        instances.pred_masks = pasted.tensor.bool()  # without any they come as numbers
    return instances


def _check_memory(count: int, height: int, width: int) -> None:
    if count * height * width > _memory() / 2:
        raise UserError(
            f"{count} masks of {width}x{height} pixels take "
            f"{count * height * width / 2**30:.1f} GiB of memory: ask for boxes alone "
            "(masks=False; for a command the override model.mask_head=null), or for fewer by a "
            "higher score threshold"
        )


def _memory() -> int:
    """Bytes of the machine; without a limit where Python cannot tell (Windows)."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
