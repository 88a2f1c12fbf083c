"""`Instances` as other libraries have their detections."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances

from ..errors import MissingPackageError

__all__ = ["to_fiftyone", "to_supervision", "to_torchmetrics"]


def to_supervision(instances: Instances) -> Any:
    """Detections of supervision, for its annotators, trackers and zones.

        sv.LabelAnnotator().annotate(image, to_supervision(instances))

    Args:
        instances: as the predictor gives them.

    Returns:
        A `supervision.Detections` with the boxes, scores, classes, masks and, as
        `data["class_name"]`, which the annotators show, the phrases.

    Raises:
        MissingPackageError: supervision is not installed.
    """
    supervision = _package("supervision")
    detections = supervision.Detections.from_detectron2({"instances": instances})
    detections.data["class_name"] = np.array(instances.pred_phrases, dtype=str)
    return detections


def to_fiftyone(instances: Instances) -> Any:
    """Detections of FiftyOne, for a field of a sample.

        sample["glip"] = to_fiftyone(instances)

    Args:
        instances: as the predictor gives them.

    Returns:
        A `fiftyone.Detections` with the phrases as labels, the scores as confidences and, where
        there are masks, that of each box within it.

    Raises:
        MissingPackageError: FiftyOne is not installed.
    """
    fiftyone = _package("fiftyone")
    height, width = instances.image_size
    masks = instances.pred_masks.cpu().numpy() if instances.has("pred_masks") else None
    detections = []
    for i, (x0, y0, x1, y1) in enumerate(instances.pred_boxes.tensor.tolist()):
        mask = {}
        if masks is not None:
            rows = slice(math.floor(y0), max(math.ceil(y1), math.floor(y0) + 1))
            columns = slice(math.floor(x0), max(math.ceil(x1), math.floor(x0) + 1))
            mask = {"mask": masks[i, rows, columns]}
        detection = fiftyone.Detection(
            label=instances.pred_phrases[i],
            bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
            confidence=float(instances.scores[i]),
            **mask,
        )
        detections.append(detection)
    return fiftyone.Detections(detections=detections)


def to_torchmetrics(instances: Instances) -> dict[str, torch.Tensor]:
    """What torchmetrics' `MeanAveragePrecision` takes of an image, found or true.

        metric.update([to_torchmetrics(found)], [to_torchmetrics(truth)])

    Args:
        instances: as the predictor gives them; or the truth with `gt_boxes`, `gt_classes` and
            perhaps `gt_masks`, as `detectron2.data.detection_utils.annotations_to_instances` makes
            it of a record. Classes of both count alike.

    Returns:
        `boxes` (n, 4), xyxy; `labels` (n,); `masks` (n, H, W) where there are any; and the
        `scores` (n,) of what is found.
    """
    if instances.has("pred_boxes"):
        result = {
            "boxes": instances.pred_boxes.tensor,
            "labels": instances.pred_classes,
            "scores": instances.scores,
        }
        return result | ({"masks": instances.pred_masks} if instances.has("pred_masks") else {})
    result = {"boxes": instances.gt_boxes.tensor, "labels": instances.gt_classes}
    if instances.has("gt_masks"):
        masks: Any = instances.gt_masks
        if not isinstance(masks, BitMasks):
            masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
        result["masks"] = masks.tensor
    return result


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingPackageError(
            f"the package '{name}' is not installed: pip install {name}"
        ) from None
