"""Videos as people have them: turned, of uneven times, cut off, without a frame."""

import numpy as np
import pytest

from glipv2_d2 import video as videos
from glipv2_d2.errors import ImageReadError, MissingImageError
from glipv2_d2.video import Video, is_camera, is_video, writing_video
from tests.support.moving_scenes import write_plain_video

SIZE = (48, 64)


def frame(level, height=SIZE[0], width=SIZE[1]):
    """RGB: gray, brighter in the upper left quarter, which is red."""
    pixels = np.full((height, width, 3), level, np.uint8)
    pixels[: height // 2, : width // 2] = (250, 20, 20)
    return pixels


def read(path, every=1):
    with Video(str(path)) as video:
        return list(video.frames(every))


@pytest.fixture
def bright_clip(tmp_path):
    """Twenty frames, brighter and brighter, two seconds."""
    return write_plain_video(tmp_path / "a.mp4", [frame(10 * i) for i in range(20)], rate=10)


def test_names():
    assert is_video("a/B.MP4") and is_video("https://host/a.webm?x=1") and is_video("camera:12")
    assert not is_video("a.jpg") and not is_video("mp4") and not is_video("camera:x")
    assert is_camera("camera:0") and not is_camera("camera:0.mp4")


def test_frames_in_order_with_their_times(bright_clip):
    frames = read(bright_clip)
    assert [f.number for f in frames] == [*range(20)]
    assert [f.time for f in frames] == pytest.approx([i / 10 for i in range(20)])
    assert all(f.pixels.shape == (*SIZE, 3) and f.pixels.dtype == np.uint8 for f in frames)
    # H.264 is lossy.
    assert [f.pixels[40, 50].mean() for f in frames] == pytest.approx(
        [10 * i for i in range(20)], abs=6
    )
    blue, green, red = frames[3].pixels[5, 5]
    assert red > 200 > 80 > blue
    with Video(bright_clip) as video:
        assert video.rate == pytest.approx(10, rel=0.1) and video.count == 20
    some = read(bright_clip, every=6)
    assert [f.number for f in some] == [0, 6, 12, 18]
    assert np.array_equal(some[1].pixels, frames[6].pixels)


def test_uneven_times_are_kept(tmp_path):
    times = [0, 0.04, 0.08, 1.0, 1.5]
    path = write_plain_video(tmp_path / "a.mp4", [frame(100)] * 5, times=times)
    assert [f.time for f in read(path)] == pytest.approx(times)


@pytest.mark.parametrize(("rotation", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_a_video_of_a_phone_is_upright(tmp_path, rotation, corner):
    """-90 is what an upright phone writes: its picture is to be turned clockwise."""
    path = write_plain_video(tmp_path / "a.mp4", [frame(100)] * 3, rotation=rotation)
    pixels = read(path)[0].pixels
    assert pixels.shape == ((*SIZE[::-1], 3) if abs(rotation) == 90 else (*SIZE, 3))
    assert pixels[corner][2] > 200 > 80 > pixels[corner][0]
    assert read(path)[0].pixels.flags["C_CONTIGUOUS"]


def fast_start(bright_clip, tmp_path):
    """The same with its index first, as on web pages: what is cut off is still a video."""
    import av

    path = tmp_path / "fast.mp4"
    with (
        av.open(bright_clip) as given,
        av.open(str(path), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return path


def test_a_video_that_is_cut_off_gives_what_it_has(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, *SIZE, 3), dtype=np.uint8)
    bright_clip = write_plain_video(tmp_path / "a.mp4", noise, rate=10)
    path = fast_start(bright_clip, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = []
    with Video(str(path)) as video, pytest.raises(ImageReadError, match="cut off|damaged after"):
        found.extend(video.frames())
    # `extend` keeps nothing of a generator that raises.
    frames = Video(str(path)).frames()
    first = [next(frames) for _ in range(5)]
    assert [f.number for f in first] == [*range(5)]


def test_what_is_no_video(tmp_path, bright_clip):
    for name, content, message in (
        ("empty.mp4", b"", "empty.mp4' has no frame"),
        ("text.avi", b"no video" * 99, "text.avi' cannot be read: Invalid data"),
        ("tail.mp4", open(bright_clip, "rb").read()[:900], "tail.mp4' cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageReadError, match=message):
            read(tmp_path / name)
    with pytest.raises(MissingImageError, match="there is no video '.*none.mp4'"):
        read(tmp_path / "none.mp4")
    with pytest.raises(MissingImageError, match="there is no camera 97"):
        read("camera:97")


def test_a_video_without_a_frame(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(ImageReadError, match="a.mkv' has no frame"):
        read(tmp_path / "a.mkv")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ImageReadError, match="sound.mp4' has no pictures"):
        read(tmp_path / "sound.mp4")


def test_a_camera_is_opened_by_its_number(bright_clip, monkeypatch):
    """No machine of the tests has one: a file stands for it."""
    import av

    asked = []
    real = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: asked.append((a, k)) or real(bright_clip))
    monkeypatch.setattr(videos.sys, "platform", "linux")
    assert len(read("camera:2")) == 20
    monkeypatch.setattr(videos.sys, "platform", "darwin")
    read("camera:1")
    assert asked[0] == (("/dev/video2",), {"format": "v4l2"})
    assert asked[1][0] == ("1",) and asked[1][1]["format"] == "avfoundation"


def test_what_is_written_is_read_again(tmp_path):
    path, times = tmp_path / "out.mp4", [0.0, 0.1, 0.5, 0.5]
    with writing_video(path, rate=10) as write:
        for i, time in enumerate(times):
            write(frame(50 * i, 47, 63), time)
        assert not path.exists()
    frames = read(path)
    assert [f.time for f in frames] == pytest.approx(times, abs=1e-3)
    assert frames[0].pixels.shape == (48, 64, 3)  # the color of four pixels is one
    levels = [f.pixels[40, 40].mean() for f in frames]
    assert levels == pytest.approx([0, 50, 100, 150], abs=6)


def test_a_video_is_there_as_a_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), writing_video(tmp_path / "out.mp4", rate=10) as write:
        write(frame(50), 0.0)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
