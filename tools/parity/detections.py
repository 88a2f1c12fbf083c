"""Final detections against the official ones, in any order."""

from typing import NamedTuple

import numpy as np

from .report import FAIL, OK, Row

BOX_TOLERANCE = 0.05  # pixels


class DetectionSet(NamedTuple):
    """n detections: inclusive boxes (n, 4) in pixels, scores (n,), labels (n,) from 1."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def compare_detections(
    prefix: str,
    ours: DetectionSet,
    reference: DetectionSet,
    stable: np.ndarray,
    score_tolerance: float,
) -> list[Row]:
    """Rows for boxes, scores and labels, over the detections that are in both, and for `stable`.

    A detection is found if one of ours, not taken by another, has its label, its box within
    `BOX_TOLERANCE` and its score within `score_tolerance`. All stable ones must be; those that
    tiny noise removes need not.

    Args:
        prefix: of the rows' names, "det0".
        stable: (n,) bool, of the reference: survives noise of 1e-4 on the head's outputs.
    """
    partner = _match(ours, reference, score_tolerance)
    found = partner >= 0
    chosen = partner[found]
    box = np.abs(ours.boxes[chosen] - reference.boxes[found])
    score = np.abs(ours.scores[chosen] - reference.scores[found])
    missing = np.flatnonzero(stable & ~found)
    counts = (
        f"{int((stable & found).sum())} of {int(stable.sum())} stable ones found, "
        f"{int((~stable & found).sum())} of {int((~stable).sum())} others, "
        f"{len(ours.scores) - len(chosen)} more of ours"
    )
    if len(missing):
        counts += "; missing: " + "; ".join(_describe(reference, i, ours) for i in missing[:3])
    status = FAIL if len(missing) else OK
    largest = max(float(np.abs(reference.boxes).max(initial=0)), 1e-12)
    best = max(float(reference.scores.max(initial=0)), 1e-12)
    box, score = float(box.max(initial=0)), float(score.max(initial=0))
    return [
        Row(f"{prefix}.boxes", status, box, box / largest, box / BOX_TOLERANCE, "pixels"),
        Row(f"{prefix}.scores", status, score, score / best, score / score_tolerance),
        Row(f"{prefix}.labels", status, note="equal in all that are found"),
        Row(f"{prefix}.stable", status, note=counts),
    ]


def _match(ours: DetectionSet, reference: DetectionSet, score_tolerance: float) -> np.ndarray:
    """(n,) index of ours for each of the reference, -1 for none; no one of ours is used twice."""
    partner = np.full(len(reference.scores), -1)
    if not len(ours.scores):
        return partner
    free = np.ones(len(ours.scores), dtype=bool)
    for i in range(len(reference.scores)):
        box = np.abs(ours.boxes - reference.boxes[i]).max(axis=1)
        score = np.abs(ours.scores - reference.scores[i])
        fits = free & (ours.labels == reference.labels[i])
        fits &= (box <= BOX_TOLERANCE) & (score <= score_tolerance)
        if fits.any():
            partner[i] = np.where(fits, box, np.inf).argmin()
            free[partner[i]] = False
    return partner


def _describe(reference: DetectionSet, i: int, ours: DetectionSet) -> str:
    same = np.flatnonzero(ours.labels == reference.labels[i])
    text = (
        f"label {reference.labels[i]}, box {np.round(reference.boxes[i], 2).tolist()}, "
        f"score {reference.scores[i]:.4f}"
    )
    if not len(same):
        return text + " (none of ours has this label)"
    box = np.abs(ours.boxes[same] - reference.boxes[i]).max(axis=1)
    near = int(box.argmin())
    score = abs(float(ours.scores[same][near] - reference.scores[i]))
    return text + f" (nearest of ours is {box[near]:.2g} px and {score:.1e} in score away)"
