"""Keeps many millions of detections as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances, ROIMasks
from pycocotools import mask as mask_util

_PASTED_AT_ONCE = 1 << 25  # pixels of masks, a byte each
_AREAS_AT_ONCE = 255  # pycocotools writes the number of masks to a uint8, and NumPy 2 looks


@dataclass
class DetectionTable:
    """A table of N detections, an array for each column.

    Attributes:
        image, category: (N,) int32 indices.
        score: (N,) float32.
        place: (N,) int32, the position among the model's detections of the image; it decides
            between equal scores, so that no order of processing can.
        boxes: (N, 4) float32 x, y, w, h, as Detectron2 writes them to results files.
        counts: (N,) of compressed RLE `counts` (bytes), or None for a model without masks.
    """

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    place: np.ndarray
    boxes: np.ndarray
    counts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def from_instances(
        cls, image: int, categories: np.ndarray, instances: Instances, limit: int | None = None
    ) -> DetectionTable:
        """Make the table of one image: all detections, or the `limit` best.

        Args:
            image: index.
            categories: (N,) category indices of the instances.
            instances: on the CPU, with `pred_boxes`, `scores` and perhaps `pred_masks`:
                (N, H, W), or ROIMasks on any device.
        """
        number = len(instances)
        boxes = instances.pred_boxes.tensor.float()
        table = cls(
            image=np.full(number, image, np.int32),
            category=categories.astype(np.int32),
            score=instances.scores.float().numpy(),
            place=np.arange(number, dtype=np.int32),
            boxes=BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).numpy(),
        )
        if limit is not None:
            table = table.best(limit)
        if instances.has("pred_masks"):  # only now: a mask costs more than all the rest
            table.counts = np.empty(len(table), dtype=object)
            table.counts[:] = list(_mask_counts(instances, torch.from_numpy(table.place).long()))
        return table

    @classmethod
    def concatenate(cls, tables: Iterable[DetectionTable]) -> DetectionTable:
        """Put tables one after the other. Tables without rows need not have masks.

        Raises:
            ValueError: some tables have masks and others do not.
        """
        tables = [table for table in tables if len(table)]
        if not tables:
            none = np.zeros(0, np.int32)
            return cls(none, none, none.astype(np.float32), none, np.zeros((0, 4), np.float32))
        if len({table.counts is None for table in tables}) > 1:
            raise ValueError("some images have predicted masks and others do not")
        parts: Any = zip(*(table.columns() for table in tables))
        joined: list[Any] = [None if p[0] is None else np.concatenate(p) for p in parts]
        return cls(*joined)

    def columns(self) -> list[Any]:
        """Return the columns in order."""
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, rows: np.ndarray) -> DetectionTable:
        """Return some of the rows, in this order."""
        taken: list[Any] = [None if c is None else c[rows] for c in self.columns()]
        return DetectionTable(*taken)

    def ranking(self) -> np.ndarray:
        """(N,) row numbers ordered by class, then score (highest first), then image and place."""
        return np.lexsort((self.place, self.image, -self.score, self.category))

    def best_per_category(self, limit: int) -> DetectionTable:
        """Keep the `limit` first rows of each class in the order of `ranking`.

        That order is total, so the best of a whole are among the best of its parts: rows may be
        dropped while they come in.
        """
        order = self.ranking()
        category = self.category[order]
        first = np.searchsorted(category, category)
        return self.take(order[np.arange(len(order)) - first < limit])

    def best(self, limit: int) -> DetectionTable:
        """Keep the `limit` rows with the highest scores; equal scores stay in order."""
        return self.take(np.sort(np.argsort(-self.score, kind="stable")[:limit]))

    def rles_of(self, rows: Iterable[int], sizes: np.ndarray) -> list[dict[str, Any]]:
        """Return masks of some rows for pycocotools; `sizes` (I, 2): height, width of images."""
        assert self.counts is not None, "a table without masks"
        return [
            {"size": sizes[self.image[row]].tolist(), "counts": self.counts[row]} for row in rows
        ]

    def mask_areas(self, sizes: np.ndarray) -> np.ndarray:
        """Count the pixels in each mask, (N,)."""
        areas = np.zeros(len(self))
        for start in range(0, len(self), _AREAS_AT_ONCE):
            rows = np.arange(start, min(start + _AREAS_AT_ONCE, len(self)))
            areas[rows] = mask_util.area(self.rles_of(rows, sizes))
        return areas

    def results(
        self, image_ids: np.ndarray, category_ids: np.ndarray, sizes: np.ndarray
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows in COCO's and LVIS's results format."""
        for row in range(len(self)):
            result = {
                "image_id": int(image_ids[self.image[row]]),
                "category_id": int(category_ids[self.category[row]]),
                "bbox": self.boxes[row].tolist(),
                "score": float(self.score[row]),
            }
            if self.counts is not None:
                (rle,) = self.rles_of([row], sizes)
                result["segmentation"] = {**rle, "counts": rle["counts"].decode("ascii")}
            yield result


def encode_mask(mask: np.ndarray | torch.Tensor) -> dict[str, Any]:
    """Encode an (H, W) mask as compressed RLE: `size` and `counts` (bytes)."""
    return mask_util.encode(np.asfortranarray(np.asarray(mask, dtype=np.uint8)))


def _mask_counts(instances: Instances, rows: torch.Tensor) -> Iterator[bytes]:
    """The RLE `counts` of some rows' masks; small ones are pasted a block at a time."""
    masks, (height, width) = instances.pred_masks, instances.image_size
    if not isinstance(masks, ROIMasks):
        yield from (encode_mask(masks[row])["counts"] for row in rows.tolist())
        return
    boxes = instances.pred_boxes.tensor
    for block in rows.split(max(_PASTED_AT_ONCE // (height * width), 1)):
        small = masks[block.to(masks.device)]
        pasted = small.to_bitmasks(Boxes(boxes[block].to(masks.device)), height, width).tensor
        yield from (encode_mask(mask)["counts"] for mask in pasted.cpu())
