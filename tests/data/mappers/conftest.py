import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from PIL import Image

CLASSES = ["cat", "caterpillar", "left shoe"]


@pytest.fixture(autouse=True)
def vocabulary():
    MetadataCatalog.get("tiny_vocabulary").set(thing_classes=CLASSES)


@pytest.fixture
def image_file(tmp_path):
    """60 x 80, left half black, right half white."""
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[:, 40:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")
