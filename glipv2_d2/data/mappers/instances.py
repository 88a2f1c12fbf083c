"""Augmented annotations as Detectron2 Instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances
from detectron2.structures.masks import polygons_to_bitmask
from pycocotools import mask as mask_util

from ...errors import DataError
from ..report import Record


def make_instances(
    annotations: Sequence[Record],
    transforms: T.TransformList,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    *,
    use_masks: bool,
    recompute_boxes: bool,
    where: str,
) -> Instances:
    """The annotations of an augmented image as Detectron2's Instances.

    Args:
        annotations: with `bbox, bbox_mode, category_id` and perhaps `segmentation`
            (polygons or RLE); their fields are replaced.
        transforms: what was applied to the image.
        image_size: (height, width) after it.
        original_size: (height, width) before it.
        use_masks: `gt_masks` as BitMasks, unless no annotation has a segmentation.
        recompute_boxes: `gt_boxes` from these masks.
        where: names the image in errors.

    Returns:
        `gt_boxes` clipped to the image, `gt_classes`, perhaps `gt_masks`; instances of
        which nothing is left are dropped.
    """
    with_masks = [a for a in annotations if use_masks and a.get("segmentation") is not None]
    if with_masks and len(with_masks) < len(annotations):
        raise ValueError(
            f"{where}: {len(annotations) - len(with_masks)} of {len(annotations)} annotations have "
            "no segmentation; give all of them one, or train with use_masks=False"
        )
    cropped = any(isinstance(t, T.CropTransform) for t in transforms.transforms)
    for annotation in annotations:
        annotation.pop("keypoints", None)
        segmentation = annotation.pop("segmentation", None)
        if with_masks:
            annotation["segmentation"] = _usable(segmentation, original_size, cropped, where)
    transformed = [
        utils.transform_instance_annotations(a, transforms, image_size) for a in annotations
    ]
    instances = utils.annotations_to_instances(transformed, image_size, mask_format="bitmask")
    if use_masks and not len(annotations):
        instances.gt_masks = BitMasks(torch.zeros(0, *image_size, dtype=torch.bool))
    if recompute_boxes and instances.has("gt_masks"):
        instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    return utils.filter_empty_instances(instances)


def _usable(segmentation: Any, size: tuple[int, int], cropped: bool, where: str) -> Any:
    """Uncompressed RLE becomes compressed; polygons become RLE if the image is cropped, else arrays
    of their own, in which transforms move the corners.

    Cropping a polygon needs another library (shapely) and keeps its outline only; a mask is
    cropped exactly.
    """
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != tuple(size):
            raise DataError(
                f"{where}: a mask has the size {tuple(segmentation['size'])}, its image {size}"
            )
        if isinstance(segmentation["counts"], list):
            return mask_util.frPyObjects(segmentation, *size)
        return segmentation
    if cropped:
        mask = polygons_to_bitmask(segmentation, *size)
        return mask_util.encode(mask.astype("uint8", order="F"))
    return [np.array(polygon) for polygon in segmentation]
