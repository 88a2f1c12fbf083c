"""What is found in tiles is what lies in the image, each thing once and whole."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances, ROIMasks

from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.engine.tiling import detect_in_tiles, tiles
from glipv2_d2.errors import UsageError
from glipv2_d2.language.phrase_list import PhraseList
from tests.support.tiny import tiny_masks_model

SIZE = 100


@pytest.mark.parametrize("length", [20, 100, 101, 175, 176, 1000, 1337])
def test_tiles_cover_an_image_and_share_a_quarter(length):
    places = tiles(length, 80, SIZE)
    assert {(t.x0, t.x1) for t in places} == {(0, 80)}
    assert places[0].y0 == 0 and places[-1].y1 == length
    assert all(t.y1 - t.y0 == min(length, SIZE) for t in places)
    assert all(a.y1 - b.y0 >= 25 and b.y0 > a.y0 for a, b in zip(places, places[1:]))
    fewest = 1 if length <= SIZE else -(-(length - 25) // 75)
    assert len(places) == fewest


def paint(boxes, height=300, width=400):
    """An image whose pixels are the number of the object there, from 1."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
        pixels[y0:y1, x0:x1] = number
    return pixels


class Eye:
    """Finds the visible part of each object that is at least a tenth as long as the picture."""

    def __init__(self):
        self.calls = []

    def __call__(self, images):
        self.calls.append(len(images))
        return [self.see(pixels[..., 0]) for pixels in images]

    def see(self, numbers):
        found = []
        for number in sorted(set(numbers.ravel().tolist()) - {0}):
            ys, xs = np.nonzero(numbers == number)
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            if max(box[2] - box[0], box[3] - box[1]) >= max(numbers.shape) / 10:
                found.append((number, box))
        instances = Instances(numbers.shape)
        instances.pred_boxes = Boxes(torch.tensor([box for _, box in found]).reshape(-1, 4).float())
        instances.pred_classes = torch.tensor([n for n, _ in found], dtype=torch.int64)
        instances.scores = 0.5 + instances.pred_classes / 100
        instances.pred_phrases = PhraseList(str(n) for n, _ in found)
        instances.pred_masks = ROIMasks(instances.scores[:, None, None].expand(-1, 4, 4))
        return instances


def test_each_object_is_found_once_and_whole():
    # Small ones at every place, across inner borders and at the image's; a long and a large one.
    small = [(x, y, x + 12, y + 14) for x in range(0, 388, 37) for y in (0, 66, 93, 286)]
    boxes = [*small, (20, 120, 380, 130), (100, 150, 220, 280)]
    eye = Eye()
    (alone,) = eye([paint(boxes)])
    assert set(alone.pred_classes.tolist()) == {len(boxes) - 1, len(boxes)}
    found = detect_in_tiles(eye, paint(boxes), SIZE, batch_size=4, nms_threshold=0.6)
    assert eye.calls == [1, 1, 4, 4, 4, 4, 4]  # 5 x 4 tiles
    assert found.image_size == (300, 400)
    assert (found.scores[:-1] >= found.scores[1:]).all()
    numbers = found.pred_classes.tolist()
    assert sorted(numbers) == [*range(1, len(boxes) + 1)]
    for number, box, phrase, mask in zip(
        numbers, found.pred_boxes.tensor.tolist(), found.pred_phrases, found.pred_masks.tensor
    ):
        assert box == list(boxes[number - 1]) and phrase == str(number)
        assert mask[0, 0].item() == pytest.approx(0.5 + number / 100)


def test_an_image_of_one_tile_is_shown_once():
    eye = Eye()
    found = detect_in_tiles(eye, paint([(5, 5, 40, 40)], 90, 100), SIZE, 4, 0.6)
    assert eye.calls == [1] and len(found) == 1


@pytest.fixture(scope="module")
def tiles_predictor():
    model = tiny_masks_model()
    return GroundingPredictor(model, min_size=64, max_size=96, batch_size=3)


def test_a_predictor_in_tiles(tiles_predictor):
    pixels = np.random.default_rng(0).integers(0, 256, (110, 150, 3), dtype=np.uint8)
    (found,) = tiles_predictor(pixels, ["cat", "dog"], tile=64)
    assert found.image_size == (110, 150) and len(found) > 0
    assert found.pred_masks.shape == (len(found), 110, 150)
    assert set(found.pred_phrases) <= {"cat", "dog"}
    boxes = found.pred_boxes.tensor
    assert boxes.min() >= 0 and (boxes[:, 2] <= 150).all() and (boxes[:, 3] <= 110).all()
    (one,) = tiles_predictor(pixels, ["cat", "dog"], tile=150)
    (plain,) = tiles_predictor(pixels, ["cat", "dog"])
    assert torch.equal(one.pred_boxes.tensor, plain.pred_boxes.tensor)
    assert torch.equal(one.pred_masks, plain.pred_masks)
    (few,) = tiles_predictor(pixels, ["cat", "dog"], tile=64, merge_iou=0.1, masks=False)
    assert 0 < len(few) < len(found) and not few.has("pred_masks")


@pytest.mark.parametrize("tile", [0, 31, 64.0, "64", True])
def test_no_tile(tiles_predictor, tile):
    with pytest.raises(UsageError, match="the side of a tile is .* from 32, got"):
        tiles_predictor(np.zeros((40, 40, 3), np.uint8), "cat", tile=tile)
