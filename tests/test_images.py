import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from glipv2_d2.errors import ImageReadError, UsageError, UserError
from glipv2_d2.images import (
    bgr_array,
    image_to_array,
    listed,
    read_image,
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


def test_gray_and_one_bit(picture, tmp_path):
    gray = picture.convert("L")
    expected = np.repeat(np.asarray(gray)[:, :, None], 3, 2)
    assert np.array_equal(saved(gray, tmp_path / "a.png"), expected)
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
    gray = Image.merge("LA", (picture.convert("L"), Image.fromarray(alpha)))
    array = saved(gray, tmp_path / "b.png")
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


@pytest.mark.parametrize("format", ["BGR", "RGB"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_pillow_image_stays_as_it_is(picture, format, orientation):
    before = np.array(picture)
    picture.getexif()[0x0112] = orientation
    read_image(picture, format)[:] = 0
    assert np.array_equal(np.asarray(picture), before)
    assert picture.getexif()[0x0112] == orientation


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_exif_rotation(picture, tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = saved(picture, tmp_path / "a.png", exif=exif)
    assert np.array_equal(array, np.rot90(np.asarray(picture), turns))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*missing\.png") as caught:
        read_image(tmp_path / "missing.png")
    assert isinstance(caught.value, UserError)


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


def test_every_form_of_an_image_gives_the_same_pixels(picture, tmp_path):
    path = tmp_path / "a.png"
    picture.convert("RGBA").save(path)
    content = path.read_bytes()
    expected = np.asarray(picture)[:, :, ::-1]
    with path.open("rb") as file:
        for source in (
            path, str(path), picture, picture.convert("RGBA"), content, bytearray(content),
            memoryview(content), io.BytesIO(content), file, np.ascontiguousarray(expected),
        ):  # fmt: skip
            assert np.array_equal(bgr_array(source), expected), type(source)
        assert not file.closed  # it is the caller's


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            torch.zeros(4, 6, 3),
            r"image 2 as a tensor must be \(3, H, W\) in RGB .*got .*\(4, 6, 3\)",
        ),
        (torch.zeros(3, 0, 6), r"got shape \(3, 0, 6\)"),
        (torch.full((3, 4, 6), 255.0), r"values in 255..255: they must lie in 0..1"),
        (torch.full((3, 4, 6), -0.5), r"values in -0.5..-0.5"),
        (torch.full((3, 4, 6), float("nan")), r"values in nan..nan"),
        (
            torch.zeros(3, 4, 6, dtype=torch.int64),
            "must be uint8 or floating-point, got torch.int64",
        ),
        (np.zeros((4, 6), np.uint8), r"image 2 as an array must be .*got shape \(4, 6\)"),
        (np.zeros((4, 6, 4), np.uint8), r"\(H, W, 3\) uint8 in BGR order, got shape \(4, 6, 4\)"),
        (np.zeros((4, 6, 3)), "of float64"),
        (np.zeros((0, 6, 3), np.uint8), r"image 2 has no pixels: its shape is \(0, 6, 3\)"),
        (Image.new("RGB", (6, 0)), r"no pixels: its shape is \(0, 6, 3\)"),
        (5, "an image is a path or URL, .* got int"),
        (None, "got NoneType"),
        (io.StringIO("text"), "open as text"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(UsageError, match=message):
        bgr_array(image, "image 2")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_hold_no_image(content):
    for source in (content, io.BytesIO(content)):
        with pytest.raises(ImageReadError, match="<bytes>|<BytesIO>"):
            bgr_array(source)


def test_a_closed_file(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        pass
    with pytest.raises(ImageReadError, match=r"a\.png' cannot be read: .*closed"):
        read_image(file)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensors_as_torchvision_has_them(picture, dtype):
    tensor = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
    scaled = tensor if dtype == torch.uint8 else (tensor / 255).to(dtype)
    array = bgr_array(scaled.requires_grad_(dtype == torch.float32))
    assert array.flags["C_CONTIGUOUS"]
    # bfloat16 has 8 bits of precision.
    tolerance = 1 if dtype == torch.bfloat16 else 0
    assert np.abs(array.astype(int) - bgr_array(picture)).max() <= tolerance
    stack = torch.stack([scaled, scaled.flip(1)])
    assert [bgr_array(image).shape for image in listed(stack)] == [(4, 6, 3)] * 2
    with pytest.raises(UsageError, match="no image is given"):
        listed(stack[:0])


def test_one_image_or_several(picture):
    array = np.zeros((4, 6, 3), np.uint8)
    with io.BytesIO() as file:
        for image in ("a.jpg", array, picture, b"bytes", file, torch.zeros(3), None):
            assert listed(image)[0] is image and len(listed(image)) == 1
    assert listed(x for x in ("a.jpg", picture)) == ["a.jpg", picture]
    assert len(listed((array, array))) == 2
    with pytest.raises(UsageError, match="no image is given"):
        listed(iter(()))


def gray_file(path, top, dtype=np.uint16, **options):
    values = np.linspace(0, top, 16).astype(dtype).reshape(4, 4)
    Image.fromarray(values).save(path, **options)
    return path


def test_12_bits_in_16_are_not_black_and_not_silent(tmp_path, caplog):
    (tmp_path / "scans").mkdir()
    path = gray_file(tmp_path / "scans" / "a.png", 4095)
    assert read_image(path)[-1, -1, 0] == 255
    read_image(gray_file(tmp_path / "scans" / "b.png", 2000))
    (warning,) = caplog.messages  # one line for a folder
    assert str(tmp_path / "scans") in warning and "as of 12 bits" in warning
    assert read_image(path, bits=16)[-1, -1, 0] == 16
    assert read_image(path, bits=14)[-1, -1, 0] == 64
    assert read_image(gray_file(tmp_path / "c.png", 4096))[-1, -1, 0] == 16
    assert read_image(gray_file(tmp_path / "d.png", 0)).max() == 0
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("largest", "expected"), [(1023, 255), (4095, 64), (65535, 4)])
def test_a_tiff_says_how_many_bits_count(tmp_path, caplog, largest, expected):
    path = gray_file(tmp_path / "a.tif", 1023, tiffinfo={281: largest})
    assert read_image(path)[-1, -1, 0] == expected
    assert not caplog.messages


@pytest.fixture
def pixel_limit(monkeypatch):
    """Pillow's and ours, put back after the test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        yield lambda text: monkeypatch.setenv("GLIP_MAX_PIXELS", text)


def test_the_most_pixels_of_an_image(pixel_limit, tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (30, 10)).save(path)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageReadError, match=r"has 300 pixels, more than 200: .*PIXELS=300"):
            bgr_array(source)
    pixel_limit("298")
    with pytest.raises(ImageReadError, match="bomb.png' has 300 pixels, more than 298"):
        read_image(path)
    pixel_limit("300")
    assert read_image(path).shape == (10, 30, 3)
    for text in ("0", "many", "-5", "1e9"):
        pixel_limit(text)
        with pytest.raises(UsageError, match=f"GLIP_MAX_PIXELS must be .*{text}"):
            read_image(path)


def test_urls(picture, tmp_path, address):
    picture.save(tmp_path / "web" / "a.png")
    assert np.array_equal(bgr_array(f"{address}/a.png"), bgr_array(picture))
    with pytest.raises(ImageReadError, match="none.png' cannot be read: .*404"):
        bgr_array(f"{address}/none.png")
