"""Videos and cameras, frame by frame (PyAV: FFmpeg's libraries)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from .errors import ImageReadError, MissingImageError
from .files import whole_file
from .sources import is_address

__all__ = ["Frame", "Video", "is_camera", "is_video", "writing_video"]

_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp",
)  # fmt: skip
_CAMERA = re.compile(r"camera:(\d+)")
# A video that ends so much earlier than it says is cut off; audio may be a little longer.
_MISSING_SECONDS = 0.5
_SILENT_SECONDS = 15  # of an address
# Of the times in a file that is written, as in television.
_TIME_BASE = Fraction(1, 90000)


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        number: in the video, from 0.
        time: in seconds since the first one.
        pixels: (H, W, 3) uint8, BGR, upright.
    """

    number: int
    time: float
    pixels: np.ndarray


def is_video(name: str) -> bool:
    """Whether it names a camera ("camera:0"), or a video by its ending."""
    path = urlsplit(name).path if is_address(name) else name
    return is_camera(name) or path.lower().endswith(_SUFFIXES)


def is_camera(name: str) -> bool:
    return _CAMERA.fullmatch(name) is not None


class Video:
    """A video that is read once, from its beginning.

        with Video("clip.mp4") as video:
            for frame in video.frames(every=2):
                instances = predictor(frame.pixels, "cat, dog")[0]

    Args:
        name: path, address, or "camera:0".

    Attributes:
        rate: frames in a second, on average.
        count: of frames, as far as the file says.
        has_sound: whether there is some, which is not read.

    Raises:
        MissingImageError: no such file or camera.
        ImageReadError: it is no video, or its beginning is damaged.
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, name: str):
        self.name = name
        self._container = _opened(name)
        if not self._container.streams.video:
            self._container.close()
            raise ImageReadError(f"{name!r} has no pictures, sound perhaps")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.count: int | None = self._stream.frames or None
        self.has_sound = bool(self._container.streams.audio)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Each frame, or each second one, ...; upright, as the camera was held.

        Raises:
            ImageReadError: there is none, or the video is damaged or cut off: after all the frames
                that can be read.
        """
        import av

        number, begin, end = 0, 0.0, 0.0
        size: tuple[int, int] | None = None
        try:
            for picture in self._container.decode(self._stream):
                time = number / self.rate if picture.time is None else picture.time
                begin = begin if number else time
                size = size or (picture.width, picture.height)
                if size != (picture.width, picture.height):
                    raise ImageReadError(
                        f"the video {self.name!r} changes its size after {number} frames, from "
                        f"{size[0]}x{size[1]} to {picture.width}x{picture.height}: cut it there"
                    )
                duration = (picture.duration or 0) * (picture.time_base or 0)
                end = float(time + duration)
                if number % every == 0:
                    pixels = picture.to_ndarray(format="bgr24")
                    turns = round(picture.rotation / 90)  # counter-clockwise
                    yield Frame(number, time - begin, np.ascontiguousarray(np.rot90(pixels, turns)))
                number += 1
        except av.FFmpegError as error:
            raise ImageReadError(
                f"the video {self.name!r} is damaged after {number} frames: {error.strerror}"
            ) from None
        if not number:
            raise ImageReadError(f"the video {self.name!r} has no frame")
        start, length = (x or 0 for x in (self._container.start_time, self._container.duration))
        announced = (start + length) / 1e6
        if announced - end > max(_MISSING_SECONDS, 2 / self.rate):
            raise ImageReadError(
                f"the video {self.name!r} ends after {number} frames and {end - begin:.1f} of "
                f"{announced - begin:.1f} seconds: it is cut off"
            )


def _opened(name: str) -> Any:
    import av

    camera = _CAMERA.fullmatch(name)
    try:
        if camera is None:
            return av.open(name, timeout=_SILENT_SECONDS if is_address(name) else None)
        if sys.platform == "darwin":
            return av.open(camera[1], format="avfoundation", options={"framerate": "30"})
        return av.open(f"/dev/video{camera[1]}", format="v4l2")
    except FileNotFoundError:
        what = f"camera {camera[1]} (/dev/video{camera[1]})" if camera else f"video {name!r}"
        raise MissingImageError(f"there is no {what}") from None
    except av.FFmpegError as error:
        empty = os.path.isfile(name) and not os.path.getsize(name)
        if empty or isinstance(error, av.error.EOFError):
            raise ImageReadError(f"the video {name!r} has no frame") from None
        raise ImageReadError(f"the video {name!r} cannot be read: {error.strerror}") from None


@contextmanager
def writing_video(path: str | Path, rate: float) -> Iterator[Callable[[np.ndarray, float], None]]:
    """A video file that is there as a whole in the end, or not at all; without sound.

        with writing_video("out.mp4", rate=25) as write:
            write(pixels, time)

    Args:
        path: of an .mp4, H.264.
        rate: frames in a second, which players show; the times of the frames count.

    Yields:
        A function that takes (H, W, 3) uint8, RGB, of one size for all, and its time in seconds.

    Raises:
        OSError: the folder cannot be written, or is full.
    """
    import av

    with whole_file(path) as file, av.open(file.name, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"  # what every player plays
        stream.options = {"crf": "23", "preset": "veryfast"}
        stream.codec_context.time_base = _TIME_BASE
        last = -1

        def write(pixels: np.ndarray, time: float) -> None:
            nonlocal last
            height, width = pixels.shape[:2]
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if last < 0:
                stream.height, stream.width = even.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            picture.time_base = _TIME_BASE
            picture.pts = last = max(last + 1, round(time / _TIME_BASE))
            container.mux(stream.encode(picture))

        yield write
        if last >= 0:
            container.mux(stream.encode())
