"""Videos of shapes that move, with the truth of each frame; and videos as they come, odd ones."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from glipv2_d2.scenes.render import footprint, make_object, paint_scene, tight_box

OBJECTS = (("red", "star"), ("blue", "circle"), ("yellow", "heart"), ("green", "square"))


def moving_frames(
    count: int, size: int = 192, background: np.ndarray | None = None, seed: int = 0
) -> Iterator[tuple[np.ndarray, dict[str, tuple[int, int, int, int]]]]:
    """Frames (size, size, 3) uint8 RGB, and the box (xyxy) of each object by its name.

    The objects cross the picture on straight lines, are reflected at its borders, and pass in front
    of each other.

    Args:
        background: (size, size, 3) float32 RGB in 0..1; None: gray.
    """
    rng = np.random.default_rng(seed)
    background = np.full((size, size, 3), 0.5, np.float32) if background is None else background
    objects = [make_object(rng, *what, diameter=0.22 * size) for what in OBJECTS]
    places = rng.uniform(0.1, 0.9, (len(objects), 2)) * size
    steps = rng.uniform(0.005, 0.02, places.shape) * size * rng.choice((-1, 1), places.shape)
    for _ in range(count):
        truth = {}
        for item, (x, y) in zip(objects, places):
            item.left, item.top = (round(v - item.mask.shape[0] / 2) for v in (x, y))
            x0, y0, width, height = tight_box(footprint(item, size))
            truth[f"{item.color} {item.shape}"] = (x0, y0, x0 + width, y0 + height)
        yield paint_scene(background, objects, light=0.8), truth
        places += steps
        outward = np.sign(places - size / 2) == np.sign(steps)
        at_border = np.abs(places - size / 2) > 0.38 * size
        steps = np.where(at_border & outward, -steps, steps)


def write_plain_video(path, frames, rate=25, times=None, rotation=0, codec="libx264"):
    """A video of (H, W, 3) uint8 RGB frames, at times of one's own and turned as a phone's is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i, pixels in enumerate(frames):
            if i == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            time = i / rate if times is None else times[i]
            frame.pts, frame.time_base = round(time * 90000), Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)
