import numpy as np
import pytest
from PIL import Image

from glipv2_d2.data.images import (
    ImageReadError,
    ImageSizeError,
    check_image_size,
    image_to_array,
    read_image,
    record_image_problem,
    record_image_size,
)

RED, BLUE = (200, 10, 30), (10, 20, 220)


@pytest.fixture
def picture():
    """4 x 6 RGB: left half red, right half blue."""
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, :3], pixels[:, 3:] = RED, BLUE
    return Image.fromarray(pixels)


def saved(image, path, **options):
    image.save(path, **options)
    return read_image(path, "RGB")


def test_rgb_and_bgr(picture, tmp_path):
    path = tmp_path / "a.png"
    picture.save(path)
    rgb, bgr = read_image(path, "RGB"), read_image(str(path))
    assert rgb.shape == (4, 6, 3) and rgb.dtype == np.uint8
    assert tuple(rgb[0, 0]) == RED
    assert np.array_equal(bgr, rgb[:, :, ::-1])
    assert bgr.flags["C_CONTIGUOUS"]


def test_grey_and_one_bit(picture, tmp_path):
    grey = picture.convert("L")
    expected = np.repeat(np.asarray(grey)[:, :, None], 3, 2)
    assert np.array_equal(saved(grey, tmp_path / "a.png"), expected)
    bits = Image.fromarray(np.eye(4, dtype=bool))
    assert np.array_equal(saved(bits, tmp_path / "b.png")[:, :, 0], np.eye(4) * 255)


def test_palette(picture, tmp_path):
    array = saved(picture.quantize(4), tmp_path / "a.png")
    assert np.abs(array.astype(int) - np.asarray(picture)).max() < 8


def test_alpha_is_laid_over_white(picture, tmp_path):
    alpha = np.zeros((4, 6), dtype=np.uint8)
    alpha[:, :3] = 255
    rgba = picture.copy()
    rgba.putalpha(Image.fromarray(alpha))
    array = saved(rgba, tmp_path / "a.png")
    assert tuple(array[0, 0]) == RED and tuple(array[0, 5]) == (255, 255, 255)
    grey = Image.merge("LA", (picture.convert("L"), Image.fromarray(alpha)))
    array = saved(grey, tmp_path / "b.png")
    assert array[0, 5].tolist() == [255] * 3 and array[0, 0, 0] < 200


def test_palette_with_transparency(picture, tmp_path):
    palette = picture.quantize(2)
    index = np.asarray(palette)[0, 5].item()
    array = saved(palette, tmp_path / "a.png", transparency=index)
    assert tuple(array[0, 5]) == (255, 255, 255)
    assert tuple(array[0, 0]) != (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    array = saved(Image.fromarray(ramp), tmp_path / f"a.{suffix}")
    assert array[0, 0, 0] == 0 and array[-1, -1, 0] == 255
    expected = np.arange(256).reshape(16, 16)
    assert np.abs(array[:, :, 0].astype(int) - expected).max() <= 1


def test_32_bit_and_float():
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    array = image_to_array(Image.fromarray(ramp.astype(np.int32)), "RGB")
    assert np.abs(array[:, :, 0].ravel().astype(int) - np.arange(256)).max() <= 1
    for top, expected in ((1.0, 255), (200.0, 200), (5000.0, 255)):
        values = np.linspace(0, top, 16, dtype=np.float32).reshape(4, 4)
        values[0, 1] = np.nan
        array = image_to_array(Image.fromarray(values), "RGB")
        assert array[-1, -1].tolist() == [expected] * 3
        assert array[0, 1, 0] == 0


def test_cmyk(picture, tmp_path):
    array = saved(picture.convert("CMYK"), tmp_path / "a.jpg", quality=100)
    assert array.shape == (4, 6, 3)
    assert array[0, 0, 0] > 120 and array[0, 0, 2] < 100  # still red
    assert array[0, 5, 2] > 120 and array[0, 5, 0] < 100


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_exif_rotation(picture, tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = saved(picture, tmp_path / "a.png", exif=exif)
    assert np.array_equal(array, np.rot90(np.asarray(picture), turns))


@pytest.mark.parametrize("orientation", [1, 6, 99])
def test_the_header_tells_the_size_of_the_upright_image(picture, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = saved(picture, tmp_path / "a.png", exif=exif)
    height, width = array.shape[:2]
    record = {"file_name": str(tmp_path / "a.png")}
    assert record_image_size(record) == (height, width)
    assert record_image_problem(record) is None
    check_image_size(record, array)
    assert (record["height"], record["width"]) == (height, width)
    check_image_size(record, array)


def test_training_and_the_header_say_the_same_of_another_size(picture, tmp_path):
    array = saved(picture, tmp_path / "a.png")
    record = {"file_name": str(tmp_path / "a.png"), "height": 7, "width": array.shape[1]}
    with pytest.raises(ImageSizeError, match="resized") as raised:
        check_image_size(record, array)
    assert record_image_problem(record) == ("wrong image size", str(raised.value))


def test_a_damaged_exif_block_spoils_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (80, 60)).save(path, exif=b"Exif\0\0no TIFF header")
    record = {"file_name": str(path), "height": 60, "width": 80}
    assert record_image_problem(record) is None
    check_image_size(record, read_image(path))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*missing\.png"):
        read_image(tmp_path / "missing.png")


def test_broken_files(picture, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageReadError, match=r"a\.jpg.*empty"):
        read_image(path)
    path.write_text("no image")
    with pytest.raises(ImageReadError, match=r"a\.jpg.*known format"):
        read_image(path)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ImageReadError, match=r"a\.jpg.*cannot be read"):
        read_image(path)
    with pytest.raises(ImageReadError, match="folder"):
        read_image(tmp_path)


def test_unknown_format(picture):
    with pytest.raises(ValueError, match="BGR"):
        image_to_array(picture, "HSV")
