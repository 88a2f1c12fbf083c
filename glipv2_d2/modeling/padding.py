"""Images of different sizes: each padded as if it were alone, or as beside others."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.structures import ImageList

__all__ = ["by_padded_size", "pad_beside"]


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


def pad_beside(images: ImageList, batched_inputs: Sequence[dict], stride: int) -> ImageList:
    """Images padded with zeros to the size that they have in the batch of `batched_inputs`.

    Args:
        images: padded to a common size already.
        batched_inputs: dicts with "image" (3, H, W), these images among them.
        stride: sides are padded to multiples of it.
    """
    sides = zip(*(x["image"].shape[-2:] for x in batched_inputs))
    height, width = (-(-max(lengths) // max(stride, 1)) * max(stride, 1) for lengths in sides)
    room = (0, width - images.tensor.shape[-1], 0, height - images.tensor.shape[-2])
    return ImageList(F.pad(images.tensor, room), images.image_sizes) if any(room) else images
