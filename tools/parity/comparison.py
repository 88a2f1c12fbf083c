"""Differences of stored values and ours, judged."""

import numpy as np
import torch

from .report import FAIL, OK, Row

_STATISTICS = ("mean", "std", "absmax")


def compare_tensor(
    name: str,
    ours: torch.Tensor,
    reference: np.ndarray,
    tolerance: float,
    sample: dict | None = None,
) -> Row:
    """Floating point tensors, by their largest absolute difference.

    Args:
        name: of the row.
        ours: the whole tensor.
        reference: the stored tensor, or what is stored of it.
        tolerance: the largest difference that passes.
        sample: of a tensor that is stored in part: "shape" and "stride" of the flat whole, whose
            "mean", "std" and "absmax" are compared, too.
    """
    values = ours.detach().cpu().contiguous().double().numpy()
    shape = tuple(sample["shape"]) if sample else reference.shape
    if values.shape != shape:
        return Row(name, FAIL, note=f"shape {values.shape} instead of {shape}")
    statistics = {}
    if sample:
        whole = {"mean": values.mean(), "std": values.std(), "absmax": np.abs(values).max()}
        statistics = {k: abs(whole[k] - sample[k]) for k in _STATISTICS if k in sample}
        values = values.reshape(-1)[:: sample["stride"]]
    reference = reference.astype(np.float64)
    difference = float(np.abs(values - reference).max(initial=0.0))
    relative = difference / (float(np.abs(reference).max(initial=0.0)) or 1.0)
    off = [key for key, value in statistics.items() if not value <= tolerance]
    notes = [f"{values.size} of {ours.numel()} values"] if sample else []
    notes += [f"{key} of the whole differs by {statistics[key]:.1e}" for key in off]
    status = OK if difference <= tolerance and not off else FAIL
    share = max([difference, *statistics.values()]) / tolerance
    return Row(name, status, difference, relative, share, "; ".join(notes))


def compare_exactly(name: str, ours: np.ndarray, reference: np.ndarray, note: str = "") -> Row:
    """Integers (tokens, masks, sizes, indices): every one must be the same."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    if ours.shape != reference.shape:
        return Row(name, FAIL, note=f"shape {ours.shape} instead of {reference.shape}")
    wrong = int((ours != reference).sum())
    if wrong:
        return Row(name, FAIL, note=f"{wrong} of {ours.size} differ")
    return Row(name, OK, 0.0, 0.0, note=note or "equal")


def compare_numbers(
    name: str,
    ours: float | np.ndarray,
    reference: float | np.ndarray,
    tolerance: float,
    floor: float = 0.0,
    note: str = "",
) -> Row:
    """Numbers by their relative difference, each against its own size but at least `floor`.

    A reference of exactly 0 without a floor asks for exactly 0.
    """
    ours, reference = np.atleast_1d(np.float64(ours)), np.atleast_1d(np.float64(reference))
    if ours.shape != reference.shape:
        return Row(name, FAIL, note=f"shape {ours.shape} instead of {reference.shape}")
    difference = np.abs(ours - reference)
    scale = np.maximum(np.abs(reference), floor)
    # 0 / 0 is no difference; anything else over 0 is an infinite one.
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(difference == 0, 0.0, difference / scale)
    worst = float(relative.max()) if relative.size else 0.0
    absolute = float(difference.max()) if difference.size else 0.0
    status = OK if worst <= tolerance else FAIL
    return Row(name, status, absolute, worst, worst / tolerance, note)
