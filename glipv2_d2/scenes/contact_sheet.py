"""Draws what a detector found beside the truth, for a grid of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as mask_util

from ..data.images import read_record_image
from ..errors import UsageError
from ..evaluation.coco_truth import compressed_rle

_TRUTH, _RIGHT, _WRONG = (70, 170, 255), (60, 220, 90), (255, 80, 60)
_HEADER, _GAP = 22, 6
_MASK_OPACITY = 110  # of 255


@dataclass(frozen=True)
class LabeledBox:
    """A box (x0, y0, x1, y1) in pixels; `score` is None for the truth; `mask` is (H, W) bool."""

    box: tuple[float, float, float, float]
    label: str
    score: float | None = None
    mask: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SheetItem:
    """One image (RGB), the true boxes and the predicted ones."""

    image: Image.Image
    truth: Sequence[LabeledBox]
    predictions: Sequence[LabeledBox]


def draw_contact_sheet(
    items: Sequence[SheetItem], columns: int = 2, cell: int = 384
) -> Image.Image:
    """Draw pairs of pictures, truth on the left and predictions on the right.

    A prediction is green if a true box of the same label overlaps it with IoU >= 0.5 and no better
    one has claimed that box (COCO's rule), red otherwise.

    Args:
        items: what to draw, row by row.
        columns: pairs in a row.
        cell: size in pixels that the longer side of each picture is scaled to.

    Raises:
        UsageError: nothing to draw.
    """
    if not items:
        raise UsageError("a contact sheet needs at least one image")
    width, height = 2 * cell + _GAP, cell + _HEADER
    rows = -(-len(items) // columns)
    columns = min(columns, len(items))
    step = width + 2 * _GAP, height + _GAP
    sheet = Image.new("RGB", (columns * step[0], rows * step[1]), (255, 255, 255))
    for position, item in enumerate(items):
        row, column = divmod(position, columns)
        sheet.paste(_pair(item, cell), (column * step[0], row * step[1]))
    return sheet


def _pair(item: SheetItem, cell: int) -> Image.Image:
    pair = Image.new("RGB", (2 * cell + _GAP, cell + _HEADER), (255, 255, 255))
    right = true_positives(item.truth, item.predictions)
    colors = [_RIGHT if hit else _WRONG for hit in right]
    truth = draw_boxes(item.image, item.truth, [_TRUTH] * len(item.truth), cell)
    found = draw_boxes(item.image, item.predictions, colors, cell)
    pair.paste(truth, (0, _HEADER))
    pair.paste(found, (cell + _GAP, _HEADER))
    draw = ImageDraw.Draw(pair)
    font = _font(14)
    draw.text((3, 3), f"truth: {len(item.truth)} objects", fill=(0, 0, 0), font=font)
    summary = f"found: {sum(right)} right, {len(right) - sum(right)} wrong"
    draw.text((cell + _GAP + 3, 3), summary, fill=(0, 0, 0), font=font)
    return pair


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[LabeledBox],
    colors: Sequence[tuple[int, int, int]],
    longer_side: int,
) -> Image.Image:
    """Draw the image, scaled, with labeled boxes, and masks where there are any.

    Labels keep clear of one another where they can.
    """
    scale = longer_side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    for item, color in zip(boxes, colors):
        if item.mask is not None:
            opacity = Image.fromarray(item.mask.astype(np.uint8) * _MASK_OPACITY)
            canvas.paste(color, mask=opacity.resize(size))
    draw = ImageDraw.Draw(canvas)
    for item, color in zip(boxes, colors):
        draw.rectangle([value * scale for value in item.box], outline=color, width=2)
    font = _font(13)
    taken: list[tuple[float, float, float, float]] = []
    for item, color in zip(boxes, colors):
        text = item.label if item.score is None else f"{item.label} {item.score:.2f}"
        place = _label_place(draw, text, font, [value * scale for value in item.box], size, taken)
        taken.append(place)
        draw.rectangle(place, fill=(0, 0, 0))
        draw.text((place[0] + 2, place[1]), text, fill=color, font=font)
    return canvas


def _label_place(draw, text, font, box, size, taken) -> tuple[float, float, float, float]:
    """A rectangle for the label: above, below or inside its box, away from other labels."""
    width = draw.textlength(text, font=font) + 4
    height = 16
    x0, y0, x1, y1 = box
    tops = (y0 - height, y1, y0 + 2, y1 - height - 2, (y0 + y1 - height) / 2)
    corners = [
        (min(max(x, 0.0), max(size[0] - width, 0.0)), min(max(y, 0.0), max(size[1] - height, 0.0)))
        for x in (x0, x1 - width)
        for y in tops
    ]
    candidates = [(x, y, x + width, y + height) for x, y in corners]
    return min(candidates, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(first, second) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def _font(size: int):
    try:
        return ImageFont.load_default(size=size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def true_positives(
    truth: Sequence[LabeledBox], predictions: Sequence[LabeledBox], iou: float = 0.5
) -> list[bool]:
    """Tell of each prediction whether it is a hit; a true box is claimed once, best score first."""
    hits = [False] * len(predictions)
    if not truth or not predictions:
        return hits
    overlaps = pairwise_iou(
        Boxes(torch.tensor([item.box for item in predictions], dtype=torch.float32)),
        Boxes(torch.tensor([item.box for item in truth], dtype=torch.float32)),
    )
    free = set(range(len(truth)))
    for index in sorted(range(len(predictions)), key=lambda i: -(predictions[i].score or 0.0)):
        same = [i for i in free if truth[i].label == predictions[index].label]
        best = max(same, key=lambda i: float(overlaps[index, i]), default=None)
        if best is not None and overlaps[index, best] >= iou:
            hits[index] = True
            free.discard(best)
    return hits


def sheet_items(
    dataset_name: str,
    results: Sequence[dict[str, Any]],
    count: int = 12,
    score_threshold: float = 0.3,
    seed: int = 0,
    chosen: Sequence[int] | None = None,
) -> list[SheetItem]:
    """Images of a data set, chosen at random, with the results of a detector.

    Args:
        dataset_name: a registered detection data set.
        results: COCO results (`image_id, category_id, bbox` xywh, `score` and perhaps
            `segmentation`), as `COCOEvaluator` writes them to
            `coco_instances_results.json`. With masks, those of the truth are drawn, too.
        count: number of images, at most.
        score_threshold: predictions below are not drawn.
        seed: of the choice.
        chosen: the positions of the images in the data set; None: `count` at random.
    """
    records = DatasetCatalog.get(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    names = metadata.thing_classes
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {i: i for i in range(len(names))}
    with_masks = any("segmentation" in result for result in results)
    by_image: dict[Any, list[tuple[dict, str]]] = {}
    for result in results:
        if result["score"] >= score_threshold:
            label = names[ids[result["category_id"]]]
            by_image.setdefault(result["image_id"], []).append((result, label))
    if chosen is None:
        chosen = sorted(np.random.default_rng(seed).permutation(len(records))[:count])
    items = []
    for record in (records[i] for i in chosen):
        size = (record["height"], record["width"])
        truth = [
            LabeledBox(
                _corners(a["bbox"], a["bbox_mode"]),
                names[a["category_id"]],
                mask=_mask(a, size) if with_masks else None,
            )
            for a in record["annotations"]
        ]
        found = [
            LabeledBox(_corners(r["bbox"]), label, r["score"], _mask(r, size))
            for r, label in by_image.get(record["image_id"], [])
        ]
        image = Image.fromarray(read_record_image(record, "RGB"))
        items.append(SheetItem(image, truth, found))
    return items


def _corners(box, mode=BoxMode.XYWH_ABS) -> tuple[float, float, float, float]:
    return tuple(BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS))


def _mask(entry: dict[str, Any], size: tuple[int, int]) -> np.ndarray | None:
    """The mask of a result or an annotation, (H, W) bool; None if it has none."""
    segmentation = entry.get("segmentation")
    if not segmentation:
        return None
    return mask_util.decode(compressed_rle(segmentation, *size)).astype(bool)
