"""Videos: each frame is asked about, its objects numbered, and drawn into a video."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import ImageReadError, UserError
from ...sources import stamp
from ...video import Frame, Video, is_camera, writing_video
from .drawing import Line, draw_frame
from .images import Ask, asked
from .inputs import picture_paths
from .journal import Entry, Journal

_TELL_SECONDS = 5
# Of the scores of boxes that begin a track, above the least: as in ByteTrack's own code.
_STRONGER = 0.1


class VideoTask(NamedTuple):
    """What is asked of videos.

    Attributes:
        ask: what is found in some frames.
        batch_size: frames that are asked about together.
        settings: what the results depend on, besides the video.
        every: 2 for each second frame, ...
        track: whether the objects are numbered.
        threshold: the least score of what is found.
    """

    ask: Ask
    batch_size: int
    settings: Mapping[str, Any]
    every: int = 1
    track: bool = False
    threshold: float = 0.0


def process_videos(
    task: VideoTask, names: Sequence[str], output: Path
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Ask about the frames of videos, and write of each a video and a line of json per frame.

    The lines are those of `Journal`: a later run with equal settings asks no frame again.

    Args:
        names: of the videos.
        output: folder, which is there.

    Returns:
        The `videos` and further `failed` of the report. A video that is cut off is in both.
    """
    pictures = picture_paths(names, output, is_free=_is_free)
    videos, failed = [], []
    for name in names:
        try:
            record, problem = _process(task, name, pictures[name])
            videos.append(record)
        except UserError as error:
            problem = str(error)
        if problem is not None:
            print(f"failed: {name}: {problem}", file=sys.stderr, flush=True)
            failed.append({"file": name, "error": problem})
    return videos, failed


def _is_free(path: Path) -> bool:
    """Whether there is no file, or a video of an earlier run, which has its lines beside it."""
    return not path.exists() or _lines(path).is_file()


def _lines(video: Path) -> Path:
    return video.with_suffix(".frames.jsonl")


def _process(task: VideoTask, name: str, picture: Path) -> tuple[dict[str, Any], str | None]:
    """The record of a video, and why it is not whole, if it is not."""
    lines = _lines(picture)
    begin = [time.time_ns()] if is_camera(name) else stamp(name)
    own = {"video": [name, begin], "every": task.every, "track": task.track}
    journal = Journal(lines, {**task.settings, **own})
    frames, detections, problem, size = 0, 0, None, (0, 0)
    with Video(name) as video, journal, writing_video(picture, video.rate / task.every) as write:
        tell = _progress(video, task.every, len(journal.entries))
        tracks = Tracks(video.rate / task.every, task.threshold) if task.track else None
        try:
            for frame, entry in _entries(task, video, journal):
                if tracks is not None:
                    tracks.number(entry["detections"], frame.time)
                if entry["file"] not in journal.entries:
                    journal.add(entry)
                if entry["error"] is not None and problem is None:
                    problem = f"frame {frame.number}: {entry['error']}"
                write(draw_frame(frame.pixels, entry["detections"], _text(entry)), frame.time)
                size = frame.pixels.shape[:2]
                frames += 1
                detections += len(entry["detections"])
                tell(frames)
        except ImageReadError as error:
            if not frames:
                raise
            problem = str(error)
        except KeyboardInterrupt:
            if not frames or not is_camera(name):
                raise
    silent = " without its sound" if video.has_sound else ""
    print(f"{name}: {frames} frames, {detections} detections: {picture}{silent}, {lines.name}")
    record = {
        "file": name,
        "height": size[0],
        "width": size[1],
        "frames": frames,
        "frames_per_second": round(video.rate, 3),
        "every": task.every,
        "detections": detections,
        "tracks": None if tracks is None else tracks.count,
        "picture": picture.name,
        "lines": lines.name,
    }
    return record, problem


def _entries(task: VideoTask, video: Video, journal: Journal) -> Iterator[tuple[Frame, Entry]]:
    """Each frame with its entry, that of the journal or a new one."""
    for batch in _batches(video.frames(task.every), task.batch_size):
        names = [f"{video.name}#{frame.number}" for frame in batch]
        new = [(n, f.pixels) for n, f in zip(names, batch) if n not in journal.entries]
        found = {entry["file"]: entry for entry, _ in asked(task.ask, new)}
        for name, frame in zip(names, batch):
            entry = journal.entries.get(name) or found[name]
            if entry["image"] is not None:
                entry["image"] |= {"frame": frame.number, "time": round(frame.time, 3)}
                entry["image"].pop("picture", None)
            yield frame, entry


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    """The frames in batches, also the last ones before an error."""
    batch: list[Frame] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except ImageReadError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _text(entry: Entry) -> list[Line]:
    """What stands in the picture: the answer or the caption."""
    image = entry["image"] or {}
    return [[(image[name], None)] for name in ("answer", "caption") if name in image]


def _progress(video: Video, every: int, done: int) -> Callable[[int], None]:
    """Tells from time to time how many frames are done."""
    if done:
        print(f"{done} frames of {video.name} are done already")
    total = "" if video.count is None else f" of {-(-video.count // every)}"
    last = time.monotonic()

    def tell(frames: int) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_SECONDS:
            last = time.monotonic()
            print(f"{video.name}: {frames}{total} frames", flush=True)

    return tell


class Tracks:
    """Numbers the objects of a video, from 1 (ByteTrack of `trackers`, one for each class).

    A tracker of its own for each class, since two names may be said of one place. As in ByteTrack
    strong boxes are assigned first, and alone begin a track; weak ones prolong one. An object gets
    its number when it is seen the second time.

    Args:
        rate: frames in a second; an object that is away for a second is another one afterwards.
        threshold: the least score of a box; from 0.1 more on it is strong.

    Attributes:
        count: of the objects so far.

    Raises:
        MissingPackageError: `trackers` is not installed.
    """

    def __init__(self, rate: float, threshold: float = 0.0):
        self._rate = rate
        self._strong = threshold + _STRONGER
        self._trackers: dict[int, Any] = {}
        self._numbers: dict[tuple[int, int], int] = {}

    @property
    def count(self) -> int:
        return len(self._numbers)

    def number(self, detections: Sequence[dict[str, Any]], time: float) -> None:
        """Set `track` of the detections of the next frame, None of an object that is new.

        Args:
            detections: with `box`, `score` and `class_id`.
            time: of the frame, in seconds.
        """
        from trackers import ByteTrackTracker

        rows: dict[int, list[int]] = {class_id: [] for class_id in self._trackers}
        for row, detection in enumerate(detections):
            detection["track"] = None
            rows.setdefault(detection["class_id"], []).append(row)
        for class_id, of_class in rows.items():
            if class_id not in self._trackers:
                self._trackers[class_id] = ByteTrackTracker(
                    frame_rate=self._rate,
                    track_activation_threshold=self._strong,
                    high_conf_det_threshold=self._strong,
                )
            given = _as_supervision([detections[row] for row in of_class], of_class)
            tracked = self._trackers[class_id].update(given, timestamp=time)
            for row, local in zip(tracked.data.get("row", ()), tracked.tracker_id):
                if local >= 0:
                    key = (class_id, int(local))
                    number = self._numbers.setdefault(key, len(self._numbers) + 1)
                    detections[row]["track"] = number


def _as_supervision(detections: Sequence[dict[str, Any]], rows: Sequence[int]) -> Any:
    """For the tracker, which gives them back in another order."""
    import supervision

    return supervision.Detections(
        xyxy=np.array([d["box"] for d in detections], dtype=np.float64).reshape(-1, 4),
        confidence=np.array([d["score"] for d in detections], dtype=np.float64),
        data={"row": np.array(rows, dtype=np.int64)},
    )
