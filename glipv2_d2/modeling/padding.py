"""Images of different sizes in one batch, each padded as if it were alone."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["by_padded_size"]


def by_padded_size(
    run: Callable[..., Sequence], stride: int, batched_inputs: Sequence[dict], *more: Sequence
) -> list:
    """What `run` gives for each image of a batch, whatever images stand beside it.

    GLIP masks no features: beside a larger image a smaller one would be padded further, which is
    another input (seen: scores that differ by 0.1 beside a panorama). So `run` gets images that
    are padded to the same size, one group after the other.

    Args:
        run: takes a list of inputs, and one of the entries of each of `more` that belong to them;
            returns one result per input.
        stride: sides are padded to multiples of it.
        batched_inputs: dicts with "image" (3, H, W).
        more: as long as `batched_inputs`.

    Returns:
        The results in the order of the inputs.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, inputs in enumerate(batched_inputs):
        padded = tuple(-(-side // max(stride, 1)) for side in inputs["image"].shape[-2:])
        groups.setdefault(padded, []).append(index)
    results: dict[int, Any] = {}
    for rows in groups.values():
        found = run(*([values[i] for i in rows] for values in (batched_inputs, *more)))
        results.update(zip(rows, found, strict=True))
    return [results[i] for i in range(len(batched_inputs))]
