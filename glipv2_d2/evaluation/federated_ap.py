"""Computes the average precision of a federated data set (LVIS), a class at a time.

The numbers are those of the `lvis` package's `LVISEval` but for rounding (ties included), and
the tests compare them. It is not used itself because it visits every pair of image and class in
Python, four times, with a dict for each: LVIS val has 24 million pairs, and keeping 10,000
detections of 1,203 classes as dicts takes several GB. Its version 0.5.3 also uses `np.float`,
which NumPy has no more.

LVIS's rules (Gupta et al. 2019, section 3.3): a detection counts only in images where its class is
annotated or verified to be absent; where the class is not annotated exhaustively, a detection
without a partner is ignored instead of wrong. There are no crowd boxes.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as mask_util

from .detection_table import DetectionTable
from .lvis_truth import LVISTruth

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
_LOW, _HIGH = np.array(list(AREAS.values())).T[:, :, None]  # each (A, 1)
_NO_TRUTH = -1.0


def federated_precision(
    truth: LVISTruth, detections: DetectionTable, masks: bool = False
) -> np.ndarray:
    """Compute the interpolated precision of every class.

    Args:
        truth: the annotations; with `rles` for masks.
        detections: all that count (nothing is cut here), in any order.
        masks: overlap and size of masks instead of boxes.

    Returns:
        (T, R, K, A) float64 for 10 IoU thresholds, 101 recalls, the classes and the areas all,
        small, medium, large; -1 where a class has no object of that size.
    """
    areas = detections.mask_areas(truth.sizes) if masks else detections.boxes[:, 2:].prod(axis=1)
    shape = (len(IOU_THRESHOLDS), len(RECALLS), len(truth.category_ids), len(AREAS))
    precision = np.full(shape, _NO_TRUTH)
    pair = [1, len(truth.image_ids)]  # a number for each pair of image and class
    found = np.stack([detections.image, detections.category], axis=1).astype(np.int64) @ pair
    true = np.stack([truth.image, truth.category], axis=1) @ pair
    order = detections.ranking()
    order = order[np.isin(found[order], np.concatenate([true, truth.negatives @ pair]))]
    excused = (areas < _LOW) | (areas > _HIGH) | np.isin(found, truth.not_exhaustive @ pair)
    true_order = np.argsort(truth.category, kind="stable")
    classes = np.arange(len(truth.category_ids) + 1)
    starts = np.searchsorted(detections.category[order], classes)
    true_starts = np.searchsorted(truth.category[true_order], classes)
    for category in classes[:-1]:
        rows = order[starts[category] : starts[category + 1]]
        objects = true_order[true_starts[category] : true_starts[category + 1]]
        matched, ignored = _match_class(truth, objects, detections, rows, masks)
        ignored |= ~matched & excused[:, None, rows]
        counted = (~_ignored_objects(truth, objects)).sum(axis=1)
        for area, total in enumerate(counted):
            if total:
                precision[:, :, category, area] = interpolated_precision(
                    matched[area] & ~ignored[area], ~matched[area] & ~ignored[area], total
                )
    return precision


def interpolated_precision(hits: np.ndarray, misses: np.ndarray, total: int) -> np.ndarray:
    """Compute the precision at 101 recalls, each the best at that recall or a higher one.

    Args:
        hits, misses: (T, N) bool, the highest score first; neither: ignored.
        total: number of true objects.

    Returns:
        (T, 101); 0 at recalls that are not reached.
    """
    hit, miss = hits.cumsum(axis=1).astype(float), misses.cumsum(axis=1).astype(float)
    recall = hit / total
    precision = hit / (hit + miss + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    where = [np.searchsorted(row, RECALLS, side="left") for row in recall]
    return np.stack([row[index] for row, index in zip(precision, where)])


def _match_class(truth, objects, detections, rows, masks) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays (A, T, len(rows)) bool: has a partner, is ignored. `rows`: best score first."""
    shape = (len(AREAS), len(IOU_THRESHOLDS), len(rows))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    images, true_images = detections.image[rows], truth.image[objects]
    for image in np.intersect1d(images, true_images):
        places, here = np.flatnonzero(images == image), objects[true_images == image]
        overlaps = _overlaps(truth, detections, rows[places], here, masks)
        matched[:, :, places], ignored[:, :, places] = match_image(
            overlaps, _ignored_objects(truth, here)
        )
    return matched, ignored


def match_image(overlaps: np.ndarray, ignored_objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to objects greedily in one image, for all areas and IoU thresholds.

    Each detection, the highest score first, takes the free object that it overlaps most; one that
    is ignored only if there is no other. Of equal overlaps the last object wins, as in COCO's and
    LVIS's code.

    Args:
        overlaps: (D, G).
        ignored_objects: (A, G) bool: outside the area range, or flagged.

    Returns:
        matched, and matched with an ignored object: (A, T, D) bool each.
    """
    shape = (len(ignored_objects), len(IOU_THRESHOLDS), len(overlaps))
    matched, aside = np.zeros(shape, bool), np.zeros(shape, bool)
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    aside_object = ignored_objects[:, None, :]
    free = np.ones((*shape[:2], overlaps.shape[1]), bool)
    last = overlaps.shape[1] - 1
    for index in np.flatnonzero(overlaps.max(axis=1) >= thresholds[0]):
        overlap = overlaps[index]
        fits = free & (overlap >= thresholds)
        counted = fits & ~aside_object
        fits = np.where(counted.any(axis=-1, keepdims=True), counted, fits)
        found = fits.any(axis=-1)
        best = last - np.argmax(np.where(fits, overlap, -1.0)[..., ::-1], axis=-1)
        area, threshold = np.nonzero(found)
        taken = best[area, threshold]
        free[area, threshold, taken] = False
        matched[:, :, index] = found
        aside[area, threshold, index] = ignored_objects[area, taken]
    return matched, aside


def _overlaps(truth, detections, rows, objects, masks) -> np.ndarray:
    no_crowds = [0] * len(objects)
    if not masks:
        boxes = detections.boxes[rows].astype(np.float64)
        return mask_util.iou(boxes, truth.boxes[objects], no_crowds)
    found = detections.rles_of(rows, truth.sizes)
    return mask_util.iou(found, [truth.rles[i] for i in objects], no_crowds)


def _ignored_objects(truth: LVISTruth, objects: np.ndarray) -> np.ndarray:
    """Objects outside of each area range, or flagged: (A, G) bool."""
    area = truth.areas[objects]
    return truth.ignore[objects] | (area < _LOW) | (area > _HIGH)
