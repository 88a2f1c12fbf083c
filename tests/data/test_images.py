import pytest
from PIL import Image

from glipv2_d2.data.images import (
    ImageSizeError,
    check_image_size,
    read_record_image,
    record_image_problem,
    record_image_size,
)


@pytest.fixture
def image_path(tmp_path):
    return str(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", [1, 6, 99])
def test_the_header_tells_the_size_of_the_upright_image(image_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(image_path, exif=exif)
    record = {"file_name": image_path}
    array = read_record_image(record)
    height, width = array.shape[:2]
    assert (height, width) == ((6, 4) if orientation == 6 else (4, 6))
    assert record_image_size(record) == (height, width)
    assert record_image_problem(record) is None
    check_image_size(record, array)
    assert (record["height"], record["width"]) == (height, width)
    check_image_size(record, array)


def test_training_and_the_header_say_the_same_of_another_size(image_path):
    Image.new("RGB", (6, 4)).save(image_path)
    record = {"file_name": image_path, "height": 7, "width": 6}
    with pytest.raises(ImageSizeError, match="resized") as raised:
        check_image_size(record, read_record_image(record))
    assert record_image_problem(record) == ("wrong image size", str(raised.value))


def test_a_damaged_exif_block_spoils_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (80, 60)).save(path, exif=b"Exif\0\0no TIFF header")
    record = {"file_name": str(path), "height": 60, "width": 80}
    assert record_image_problem(record) is None
    check_image_size(record, read_record_image(record))


def test_the_header_of_an_image_at_an_address(tmp_path, address):
    Image.new("RGB", (6, 4)).save(tmp_path / "web" / "a.png")
    assert record_image_size({"file_name": f"{address}/a.png"}) == (4, 6)
