"""Which images are meant, and what their pictures are called."""

import pytest
from PIL import Image

from glipv2_d2.cli.detection.inputs import find_images, is_address, picture_paths, stamp
from glipv2_d2.errors import UsageError


def test_no_two_images_share_a_picture(tmp_path):
    names = ["a.jpg", "a_jpg_2.jpg", "x/a.jpg", "A.JPG", "y/a_jpg.png", "a.png", "z/a.jpg", "b.gif"]
    files = [str(tmp_path / name) for name in names]
    paths = picture_paths(files, tmp_path / "out")
    pictures = [paths[file].name for file in files]
    assert len({name.casefold() for name in pictures}) == len(files)
    assert pictures[:2] == ["a_jpg.jpg", "a_jpg_2.jpg"] and pictures[-1] == "b.jpg"
    # Those of the run before keep theirs.
    given = {files[2]: "a_jpg.jpg"}
    again = picture_paths(files, tmp_path / "out", given)
    assert again[files[2]].name == "a_jpg.jpg" and len(set(again.values())) == len(files)
    with pytest.raises(UsageError, match="could overwrite images there"):
        picture_paths(files, tmp_path)


def test_an_image_that_is_given_twice_is_asked_once(tmp_path):
    for name in "abcd":
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.png")
    given = [str(tmp_path / "a.png"), str(tmp_path), str(tmp_path / "." / "a.png")]
    assert find_images(given).files == [str(tmp_path / f"{name}.png") for name in "abcd"]


def test_addresses_are_no_paths():
    assert is_address("https://host/a.jpg") and is_address("S3://bucket/a.jpg")
    assert not is_address("C:/a.jpg") and not is_address("folder/a.jpg")
    assert stamp("https://host/a.jpg") is None and stamp("no/such/file.jpg") is None
