"""Videos through a made-up model: each frame once, also after a kill, and objects keep a number."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from glipv2_d2.cli.detection import video as detect_video
from glipv2_d2.cli.detection.drawing import draw_frame
from glipv2_d2.cli.detection.images import Found
from glipv2_d2.cli.detection.video import Tracks, VideoTask, process_videos
from glipv2_d2.language.phrase_list import PhraseList
from glipv2_d2.video import Video
from tests.support.moving_scenes import moving_frames, write_plain_video

SIZE, FRAMES = 96, 12


class Model:
    """Finds the bright square; counts the frames, and stops or fails at some of them."""

    def __init__(self, stop_at=None, fail_at=None):
        self.batches = []
        self.stop_at, self.fail_at = stop_at, fail_at

    def __call__(self, images):
        if self.stop_at is not None and sum(self.batches) + len(images) > self.stop_at:
            raise KeyboardInterrupt
        if self.fail_at is not None and any(self.fail_at == number(x) for x in images):
            raise MemoryError
        self.batches.append(len(images))
        return [self.found(pixels) for pixels in images]

    def found(self, pixels):
        ys, xs = np.nonzero(pixels[:, :, 1] > 128)
        found = Instances(pixels.shape[:2])
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        found.pred_boxes = Boxes(torch.tensor([box]).float())
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
        found.pred_phrases = PhraseList(["square"])
        return Found(found, {"answer": "yes"})


def square(i):
    """Frame i: the square is 4 pixels further to the right."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[40:60, 4 * i : 4 * i + 20] = 250
    return pixels


def number(pixels):
    """Of a frame."""
    return round(np.nonzero(pixels[50, :, 1] > 128)[0].min() / 4)


@pytest.fixture
def square_clip(tmp_path):
    return write_plain_video(tmp_path / "clip.mp4", map(square, range(FRAMES)), rate=10)


@pytest.fixture
def run_video(tmp_path, square_clip):
    (tmp_path / "out").mkdir()

    def run(model, batch_size=4, name=square_clip, every=1, track=True, **settings):
        task = VideoTask(model, batch_size, settings, every, track)
        return process_videos(task, [name], tmp_path / "out")

    return run


def lines_of(tmp_path):
    first, *lines = (tmp_path / "out/clip.frames.jsonl").read_text().splitlines()
    return json.loads(first), [json.loads(line) for line in lines]


def test_a_line_and_a_picture_of_each_frame(run_video, tmp_path, square_clip):
    model = Model()
    (video,), failed = run_video(model, batch_size=5)
    assert model.batches == [5, 5, 2] and failed == []
    first, lines = lines_of(tmp_path)
    assert first["settings"]["video"][0] == square_clip and first["settings"]["track"] is True
    assert [line["image"]["frame"] for line in lines] == [*range(FRAMES)]
    assert [line["image"]["time"] for line in lines] == pytest.approx([i / 10 for i in range(12)])
    assert lines[3]["file"] == f"{square_clip}#3" and lines[3]["image"]["answer"] == "yes"
    (found,) = lines[3]["detections"]
    # H.264 blurs the edges.
    assert found["box"] == pytest.approx([12, 40, 32, 60], abs=2)
    assert [line["detections"][0]["track"] for line in lines] == [None] + [1] * (FRAMES - 1)
    assert (video["frames"], video["detections"], video["tracks"]) == (FRAMES, FRAMES, 1)
    assert (video["height"], video["width"], video["frames_per_second"]) == (SIZE, SIZE, 10.0)
    assert (video["picture"], video["lines"]) == ("clip.mp4", "clip.frames.jsonl")
    with Video(str(tmp_path / "out/clip.mp4")) as written:
        frames = list(written.frames())
    assert [f.time for f in frames] == pytest.approx([i / 10 for i in range(FRAMES)])
    assert len({f.pixels.tobytes() for f in frames}) == FRAMES


def test_a_video_of_another_program_is_not_replaced(run_video, tmp_path):
    other = tmp_path / "out/clip.mp4"
    other.write_bytes(b"other")
    for _ in range(2):
        (video,), _ = run_video(Model())
        assert (video["picture"], video["lines"]) == ("clip_2.mp4", "clip_2.frames.jsonl")
    assert other.read_bytes() == b"other"


def test_a_run_that_was_killed_goes_on_with_the_next_frame(run_video, tmp_path):
    (whole,), _ = run_video(Model())
    expected = lines_of(tmp_path)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run_video(Model(stop_at=9))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["clip.frames.jsonl"]
    assert len(lines_of(tmp_path)[1]) == 8
    with open(tmp_path / "out/clip.frames.jsonl", "a") as file:
        file.write('{"file": "clip')
    rest = Model()
    (again,), _ = run_video(rest)
    assert rest.batches == [4] and again == whole
    # The numbers of the objects go on, too.
    assert lines_of(tmp_path) == expected
    other = Model()
    run_video(other, prompt="another")
    assert sum(other.batches) == FRAMES


def test_each_third_frame(run_video, tmp_path):
    (video,), _ = run_video(Model(), every=3, track=False)
    assert (video["frames"], video["every"], video["tracks"]) == (4, 3, None)
    lines = lines_of(tmp_path)[1]
    assert [line["image"]["frame"] for line in lines] == [0, 3, 6, 9]
    assert "track" not in lines[0]["detections"][0]
    with Video(str(tmp_path / "out/clip.mp4")) as written:
        assert [f.time for f in written.frames()] == pytest.approx([0, 0.3, 0.6, 0.9])


def test_a_frame_that_fails_is_told_and_tried_again(run_video, tmp_path):
    (video,), (failed,) = run_video(Model(fail_at=6))
    assert video["frames"] == FRAMES and video["detections"] == FRAMES - 1
    assert failed["error"].startswith("frame 6: MemoryError")
    model = Model()
    (video,), failed = run_video(model)
    assert model.batches == [1] and failed == [] and video["detections"] == FRAMES


def test_a_video_that_ends_early_is_written_and_told(run_video, tmp_path, monkeypatch, capsys):
    class Cut(Video):
        def frames(self, every=1):
            for frame in super().frames(every):
                if frame.number == 7:
                    raise detect_video.ImageReadError("the video is cut off")
                yield frame

    monkeypatch.setattr(detect_video, "Video", Cut)
    (video,), (failed,) = run_video(Model(), batch_size=4)
    assert video["frames"] == 7 and failed["error"] == "the video is cut off"
    assert len(lines_of(tmp_path)[1]) == 7 and (tmp_path / "out/clip.mp4").exists()
    assert "failed: " in capsys.readouterr().err


def test_a_video_that_is_none_does_not_stop_the_others(run_video, tmp_path, square_clip):
    (tmp_path / "bad.avi").write_bytes(b"no video")
    bad = str(tmp_path / "bad.avi")
    videos, failed = process_videos(VideoTask(Model(), 4, {}), [bad, square_clip], tmp_path / "out")
    assert [v["file"] for v in videos] == [square_clip]
    assert [f["file"] for f in failed] == [bad] and "Invalid data" in failed[0]["error"]
    assert not (tmp_path / "out/bad.mp4").exists()


def test_a_camera_is_asked_until_it_is_stopped(run_video, square_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(detect_video, "Video", lambda name: Video(square_clip))
    for frames in (8, 4):  # a second run does not go on with the first
        (video,), failed = run_video(Model(stop_at=frames), name="camera:0")
        assert video["frames"] == frames and failed == []
        with Video(str(tmp_path / "out/camera_0.mp4")) as written:
            assert len(list(written.frames())) == frames


def boxes(truth, names):
    places = [[float(value) for value in truth[name]] for name in names]
    return [{"box": box, "score": 0.5, "class_id": i} for i, box in enumerate(places)]


def test_objects_that_pass_each_other_keep_their_numbers():
    """Of one class, of two, with a frame in which nothing is found."""
    truths = [truth for _, truth in moving_frames(50, size=64)]
    for classes in (1, 2):
        tracks = Tracks(rate=25, threshold=0.3)
        seen = set()
        for i, truth in enumerate(truths):
            names = sorted(truth)
            found = boxes(truth, names) if i != 30 else []
            for detection in found:
                detection["class_id"] %= classes
            tracks.number(found, i / 25)
            seen |= {(n, d["track"]) for n, d in zip(names, found) if d["track"] is not None}
        assert len(seen) == tracks.count == 4 and {track for _, track in seen} == {1, 2, 3, 4}


def test_a_weak_second_box_neither_takes_a_number_nor_gets_one():
    tracks = Tracks(rate=25, threshold=0.4)
    strong = {"box": [140.0, 27.0, 182.0, 70.0], "score": 0.8, "class_id": 0}
    hidden = {"box": [142.0, 33.0, 176.0, 63.0], "score": 0.62, "class_id": 0}
    weak = {"box": [139.0, 26.0, 181.0, 71.0], "score": 0.46, "class_id": 0}
    given = []
    for i, found in enumerate(([strong], [strong], [hidden, weak], [weak], [weak], [strong])):
        found = [dict(detection) for detection in found]
        tracks.number(found, i / 25)
        given.append([detection["track"] for detection in found])
    assert given == [[None], [1], [1, None], [1], [1], [1]] and tracks.count == 1


def test_a_frame_is_drawn_in_its_own_size():
    pixels = np.zeros((120, 161, 3), np.uint8)
    detection = {"box": [40, 40, 120, 90], "phrase": "a cat", "class_id": 1, "score": 0.5}
    plain = draw_frame(pixels, [])
    drawn = draw_frame(pixels, [detection], [[("yes", None)]])
    assert plain.shape == drawn.shape == pixels.shape and plain.max() == 0
    changed = np.argwhere(drawn.any(axis=2))
    assert changed[:, 0].min() < 40 and drawn[70, 80].max() == 0
    assert drawn[65, 40].max() > 100 and drawn[94:108, :39].max() > 100  # the border; the text
    mask = np.zeros((120, 161), np.uint8, order="F")
    mask[60:80, 60:100] = 1
    code = coco_mask.encode(mask)
    filled = draw_frame(pixels, [{**detection, "mask": code, "track": 5}])
    assert filled[70, 80].max() > 60 and filled[85, 80].max() == 0
    assert filled[65, 40].tolist() != drawn[65, 40].tolist()  # the color is the object's
