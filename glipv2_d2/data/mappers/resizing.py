"""Sizes of training images in proportion to the size that a model is used at."""

from collections.abc import Sequence

from detectron2.data.transforms import ResizeShortestEdge

__all__ = ["resize_in_proportion"]


def resize_in_proportion(
    percent: Sequence[float], min_size: int, max_size: int
) -> ResizeShortestEdge:
    """Draw the length of the short side among percentages of the usual one.

    A recipe that is added to any config cannot name pixels: GLIP's 480 to 800 are right for a model
    that sees 800, and 16 times the work at a size never seen for one of 192.

    Args:
        percent: of `min_size`.
        min_size: pixels of the short side where the model is used.
        max_size: the most pixels of the long side.
    """
    sizes = [round(min_size * each / 100) for each in percent]
    return ResizeShortestEdge(sizes, max_size, sample_style="choice")
