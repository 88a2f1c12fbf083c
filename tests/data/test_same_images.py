"""Images that two data sets share are found by what is in them."""

import base64
import shutil

from glipv2_d2.data.containers import ImageSource
from glipv2_d2.data.same_images import equal_images, same_images


def records(*paths):
    return [{"file_name": str(path)} for path in paths]


def test_copies_are_found_under_other_names(images, tmp_path):
    shutil.copy(images / "3.png", tmp_path / "copy.png")
    noise = bytearray((images / "4.png").read_bytes())
    noise[-20] ^= 1
    (tmp_path / "4.png").write_bytes(noise)  # of one size and name, and another image
    train = records(*sorted(images.iterdir()))
    val = records(tmp_path / "copy.png", tmp_path / "4.png", tmp_path / "missing.png")
    assert same_images(train, val) == [(str(images / "3.png"), str(tmp_path / "copy.png"))]
    assert same_images(val, train) == [(str(tmp_path / "copy.png"), str(images / "3.png"))]
    assert same_images(train, []) == same_images([], train) == []


def test_an_image_of_many_records_is_named_once(images):
    path = images / "3.png"
    assert same_images(records(path, path), records(path, path)) == [(str(path), str(path))]


def test_images_within_other_files(images, tmp_path):
    text = base64.b64encode((images / "3.png").read_bytes())
    (tmp_path / "a.json").write_bytes(text)
    source = ImageSource("base64", str(tmp_path / "a.json"), 0, len(text), "")
    inside = [{"file_name": "a.png", "image_source": source}]
    assert same_images(inside, records(images / "3.png")) == [("a.png", str(images / "3.png"))]


def test_records_of_equal_images_are_grouped(images, tmp_path):
    for name in ("a.png", "b.png"):
        shutil.copy(images / "3.png", tmp_path / name)
    text = base64.b64encode((images / "3.png").read_bytes())
    (tmp_path / "a.json").write_bytes(text)
    source = ImageSource("base64", str(tmp_path / "a.json"), 0, len(text), "")
    inside = [{"file_name": "c.png", "image_source": source}]
    some = records(tmp_path / "a.png", images / "3.png", images / "4.png", tmp_path / "b.png")
    assert equal_images([*some, *inside]) == [[0, 1, 3, 4], [2]]
    assert equal_images([]) == []
