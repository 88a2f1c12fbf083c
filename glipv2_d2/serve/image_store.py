"""Encoded images by an id that nobody can guess, as many as there is room for."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from ..engine.encoded_image import EncodedImage
from ..errors import UsageError

__all__ = ["ImageStore", "UnknownImage"]


class UnknownImage(LookupError):
    """An id without an image."""


class _Kept(NamedTuple):
    image: EncodedImage
    asked: float


class ImageStore:
    """Keeps encoded images; the one that was asked longest ago goes first.

    For one thread: that of the event loop.

    Args:
        memory: most bytes of all of them.
        keep: seconds after which an image goes that nobody asks about.
        now: the clock, in seconds.
    """

    def __init__(self, memory: int, keep: float, now: Callable[[], float] = time.monotonic):
        self._memory = memory
        self._keep = keep
        self._now = now
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # asked longest ago first

    def __len__(self) -> int:
        self._drop_old()
        return len(self._kept)

    @property
    def used(self) -> int:
        """Bytes of all images."""
        return sum(kept.image.memory for kept in self._kept.values())

    def add(self, image: EncodedImage) -> str:
        """Keep an image; returns its id.

        Raises:
            UsageError: it is larger than all the room.
        """
        if image.memory > self._memory:
            raise UsageError(
                f"the encoded image takes {image.memory:,} bytes and the cache has "
                f"{self._memory:,}: start the server with a larger --cache-mb"
            )
        self._drop_old()
        while self.used + image.memory > self._memory:
            self._kept.popitem(last=False)
        name = secrets.token_urlsafe(24)
        self._kept[name] = _Kept(image, self._now())
        return name

    def get(self, name: str) -> EncodedImage:
        """An image, kept anew from now on.

        Raises:
            UnknownImage: it has gone, or never was.
        """
        self._drop_old()
        if name not in self._kept:
            raise UnknownImage
        image = self._kept.pop(name).image
        self._kept[name] = _Kept(image, self._now())
        return image

    def _drop_old(self) -> None:
        oldest = self._now() - self._keep
        while self._kept and next(iter(self._kept.values())).asked < oldest:
            self._kept.popitem(last=False)
