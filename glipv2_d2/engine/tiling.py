"""Large images in overlapping tiles, so that what is small in them is seen in its own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from math import ceil
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, ROIMasks
from torchvision.ops import batched_nms

from ..errors import UsageError
from ..images import AnyImage, bgr_array
from ..modeling.mask_output import rescale
from ..modeling.precision import inference_autocast
from .asked import Request
from .image_input import image_input

if TYPE_CHECKING:
    from .predictor import GroundingPredictor

__all__ = ["ask_in_tiles", "detect_in_tiles", "tiles"]

# Of the side of a tile: what neighbors share, and what is too near a border to be seen whole.
OVERLAP = 0.25
MARGIN = 0.02
SMALLEST_TILE = 32


class Tile(NamedTuple):
    """A rectangle of an image in pixels; the right and lower borders are outside."""

    x0: int
    y0: int
    x1: int
    y1: int


@torch.no_grad()
def ask_in_tiles(
    predictor: GroundingPredictor, images: list[AnyImage], request: Request, size: int
) -> Iterator[Any]:
    """What is asked of images, of each in its tiles.

    Args:
        size: of a tile in pixels.

    Raises:
        UsageError: a size that is no whole number or too small.
    """
    if not isinstance(size, Integral) or isinstance(size, bool) or size < SMALLEST_TILE:
        raise UsageError(
            f"the side of a tile is a whole number of pixels from {SMALLEST_TILE}, got {size!r}"
        )
    nms_threshold = predictor.glip.postprocessor.nms_threshold
    for i, image in enumerate(images):
        name = f"images[{i}]"
        pixels = bgr_array(image, name)
        asked = {"prompt": request.prompts[i], **request.options}
        detect = partial(_detect, predictor, asked, name)
        found = detect_in_tiles(detect, pixels, int(size), predictor.batch_size, nms_threshold)
        height, width = pixels.shape[:2]
        yield request.read({"instances": found}, {"height": height, "width": width, **asked})


def tiles(height: int, width: int, size: int) -> list[Tile]:
    """Tiles of `size` pixels that cover an image and share a quarter of it or more, row by row."""
    return [
        Tile(x, y, min(x + size, width), min(y + size, height))
        for y in _starts(height, size)
        for x in _starts(width, size)
    ]


def detect_in_tiles(
    detect: Callable[[list[np.ndarray]], list[Instances]],
    pixels: np.ndarray,
    size: int,
    batch_size: int,
    nms_threshold: float,
) -> Instances:
    """The detections of an image, each from where it is seen whole and largest.

    An object that is shorter than what neighboring tiles share lies whole in one of them: of a tile
    the boxes that reach an inner border are left out, as another tile has them. Longer ones are
    found in the image as a whole, of which only these are taken. What several tiles found is merged
    by class-aware NMS.

    Args:
        detect: of some images the detections, each in its own pixels, masks as ROIMasks.
        pixels: (H, W, C) of the image.
        size: of a tile in pixels.
        batch_size: tiles that are detected in together.
        nms_threshold: IoU above which a lower-scored box of the same class is removed.

    Returns:
        In pixels of the image, best first, masks as ROIMasks.
    """
    height, width = pixels.shape[:2]
    places = tiles(height, width, size)
    if len(places) == 1:
        return detect([pixels])[0]
    (whole,) = detect([pixels])
    boxes = whole.pred_boxes.tensor
    found = [whole[(boxes[:, 2:] - boxes[:, :2]).amax(dim=1) > size * (OVERLAP - 2 * MARGIN)]]
    remaining = iter(places)
    while batch := list(islice(remaining, batch_size)):
        parts = detect([pixels[t.y0 : t.y1, t.x0 : t.x1] for t in batch])
        found += [
            _placed(_uncut(part, tile, whole.image_size), tile, whole.image_size)
            for part, tile in zip(parts, batch)
        ]
    merged = _concatenated(found)
    keep = batched_nms(
        merged.pred_boxes.tensor.double(),
        merged.scores.double(),
        merged.pred_classes,
        nms_threshold,
    )
    return merged[keep]


def _detect(
    predictor: GroundingPredictor, asked: dict[str, Any], name: str, images: list[np.ndarray]
) -> list[Instances]:
    inputs = [{**image_input(predictor, image, name), **asked} for image in images]
    with inference_autocast(predictor.model.device, predictor.precision):
        outputs = predictor.model.outputs(inputs)
    return [rescale(y["instances"], x).to("cpu") for y, x in zip(outputs, inputs)]


def _starts(length: int, size: int) -> Iterator[int]:
    """Where tiles begin along a side: evenly, the last one ends with the image."""
    step = size - ceil(size * OVERLAP)
    count = max(1, ceil((length - size) / step) + 1)
    return (i * (length - size) // (count - 1) if i else 0 for i in range(count))


def _uncut(found: Instances, tile: Tile, image_size: tuple[int, int]) -> Instances:
    """Without the boxes that reach a border of the tile which is none of the image."""
    height, width = image_size
    margin = MARGIN * max(tile.x1 - tile.x0, tile.y1 - tile.y0)
    x0, y0, x1, y1 = found.pred_boxes.tensor.unbind(dim=1)
    whole = torch.ones_like(x0, dtype=torch.bool)
    if tile.x0 > 0:
        whole &= x0 > margin
    if tile.y0 > 0:
        whole &= y0 > margin
    if tile.x1 < width:
        whole &= x1 < tile.x1 - tile.x0 - margin
    if tile.y1 < height:
        whole &= y1 < tile.y1 - tile.y0 - margin
    return found[whole]


def _placed(found: Instances, tile: Tile, image_size: tuple[int, int]) -> Instances:
    """In pixels of the image."""
    shift = found.pred_boxes.tensor.new_tensor([tile.x0, tile.y0, tile.x0, tile.y0])
    fields = {**found.get_fields(), "pred_boxes": Boxes(found.pred_boxes.tensor + shift)}
    return Instances(image_size, **fields)


def _concatenated(parts: list[Instances]) -> Instances:
    """`Instances.cat`, which cannot join ROIMasks."""
    masks = [part.pred_masks.tensor for part in parts if part.has("pred_masks")]
    rest = [
        Instances(p.image_size, **{k: v for k, v in p.get_fields().items() if k != "pred_masks"})
        for p in parts
    ]
    merged = Instances.cat(rest)
    if masks:
        merged.pred_masks = ROIMasks(torch.cat(masks))
    return merged
