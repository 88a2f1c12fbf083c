"""Pictures of regions."""

import numpy as np
import pytest
from PIL import Image

from glipv2_d2.errors import MissingImageError
from glipv2_d2.search.sheet import SIDE, contact_sheet, picture_of
from glipv2_d2.search.store import Match


@pytest.fixture
def corner(tmp_path):
    """A region in the corner of an image that is blue there and green elsewhere."""
    pixels = np.zeros((100, 100, 3), dtype=np.uint8)
    pixels[..., 1] = 255
    pixels[60:, 60:] = [0, 0, 255]
    Image.fromarray(pixels).save(tmp_path / "corner.png")
    file = str(tmp_path / "corner.png")
    return Match(0, file, 100, 100, [60.0, 60.0, 100.0, 100.0], 0.5, None)


def test_a_region_stands_in_the_middle_of_twice_its_size(corner):
    picture = np.asarray(picture_of(corner))
    assert picture.shape == (SIDE, SIDE, 3)
    quarter, half = SIDE // 4, SIDE // 2
    assert picture[half, half].tolist() == [0, 0, 255]
    assert picture[quarter // 2, quarter // 2].tolist() == [0, 255, 0]
    assert picture[-quarter // 2, half].tolist() == [0, 0, 0]  # outside of the image
    assert picture[quarter, half, 0] > 200  # the outline
    other = np.asarray(picture_of(corner, [0, 0, 40, 40]))
    assert other[half, half].tolist() == [0, 255, 0]


def test_a_sheet_has_a_row_of_five_and_gray_for_what_is_gone(corner):
    gone = corner._replace(file="gone.png")
    sheet = np.asarray(contact_sheet([corner] * 5 + [gone]))
    assert sheet.shape == (2 * (SIDE + 28) + 8, 5 * (SIDE + 8) + 8, 3)
    assert sheet[8 + SIDE + 28 + SIDE // 2, 8 + SIDE // 2].tolist() == [128, 128, 128]
    with pytest.raises(MissingImageError):
        picture_of(gone)
