import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_util

from glipv2_d2.scenes.contact_sheet import (
    LabeledBox,
    SheetItem,
    draw_boxes,
    draw_contact_sheet,
    sheet_items,
    true_positives,
)

TRUTH = [LabeledBox((10, 10, 30, 30), "red star"), LabeledBox((40, 40, 60, 60), "red star")]
TOOL = Path(__file__).parents[2] / "tools" / "contact_sheet.py"


def test_true_positives_claim_each_truth_once():
    predictions = [
        LabeledBox((11, 10, 31, 30), "red star", 0.5),  # second claim of the first star
        LabeledBox((10, 10, 30, 30), "red star", 0.9),
        LabeledBox((40, 40, 60, 60), "blue star", 0.9),  # other label
        LabeledBox((52, 52, 64, 64), "red star", 0.8),  # too far off
    ]
    assert true_positives(TRUTH, predictions) == [False, True, False, False]
    assert true_positives([], predictions) == [False] * 4
    assert true_positives(TRUTH, []) == []


def test_boxes_are_drawn_in_their_color_and_scaled():
    image = Image.new("RGB", (64, 48))
    picture = draw_boxes(image, TRUTH[:1], [(255, 0, 0)], longer_side=128)
    assert picture.size == (128, 96)
    assert picture.getpixel((20, 40)) == (255, 0, 0)  # left edge at x = 10 * 2
    assert picture.getpixel((100, 90)) == (0, 0, 0)


def test_masks_are_laid_over_the_image():
    mask = np.zeros((48, 64), dtype=bool)
    mask[20:40, 20:40] = True
    box = LabeledBox((10, 15, 50, 45), "red star", mask=mask)
    picture = draw_boxes(Image.new("RGB", (64, 48)), [box], [(255, 0, 0)], longer_side=128)
    red, green, blue = picture.getpixel((60, 60))
    assert 90 < red < 130 and green == blue == 0
    assert picture.getpixel((30, 60)) == (0, 0, 0)  # in the box, not in the mask


def test_the_sheet_is_a_grid_of_pairs():
    items = [SheetItem(Image.new("RGB", (64, 64)), TRUTH, [])] * 3
    two = draw_contact_sheet(items, columns=2, cell=100)
    one = draw_contact_sheet(items[:1], columns=2, cell=100)
    assert two.width == 2 * one.width and two.height == 2 * one.height
    with pytest.raises(ValueError, match="at least one image"):
        draw_contact_sheet([])


@pytest.fixture
def results(register, tmp_path):
    name = register("sheet", ["a", "b"], [[(0, (5, 5, 20, 20))], [(1, (5, 5, 20, 20))]])
    for index in range(2):
        Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / f"{index}.jpg")
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {10: 0, 20: 1}
    return name, [
        {"image_id": 1, "category_id": 10, "bbox": [5, 5, 20, 20], "score": 0.9},
        {"image_id": 2, "category_id": 10, "bbox": [5, 5, 20, 20], "score": 0.8},
        {"image_id": 2, "category_id": 20, "bbox": [5, 5, 20, 20], "score": 0.1},
    ]


def test_items_of_a_data_set(results):
    items = sheet_items(*results, count=5, score_threshold=0.3)
    assert [item.truth[0].label for item in items] == ["a", "b"]
    assert [[box.label for box in item.predictions] for item in items] == [["a"], ["a"]]
    assert items[0].predictions[0].box == (5, 5, 25, 25)
    assert len(sheet_items(*results, count=1)) == 1


def test_masks_of_results_and_truth(results):
    name, content = results
    path = Path(MetadataCatalog.get(name).json_file)
    data = json.loads(path.read_text())
    mask = np.zeros((64, 64), dtype=np.uint8, order="F")
    mask[5:25, 5:15] = 1
    rle = mask_util.encode(mask)
    rle["counts"] = rle["counts"].decode()  # as json has it
    # Column by column: five empty ones and five pixels, then 20 pixels in each of ten columns.
    runs = [5 * 64 + 5, *[20, 44] * 9, 20]
    uncompressed = {"size": [64, 64], "counts": [*runs, 64 * 64 - sum(runs)]}
    data["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 25, 25, 5, 25]]
    data["annotations"][1]["segmentation"] = uncompressed
    path.write_text(json.dumps(data))
    assert all(item.truth[0].mask is None for item in sheet_items(name, content, count=5))
    content[0]["segmentation"] = rle
    first, second = sheet_items(name, content, count=5)
    assert (first.predictions[0].mask == mask).all() and second.predictions[0].mask is None
    square = np.zeros((64, 64), dtype=bool)
    square[5:25, 5:25] = True
    assert (first.truth[0].mask == square).all() and (second.truth[0].mask == mask).all()


def test_the_command(results, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("contact_sheet_tool", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    name, content = results
    path, output = tmp_path / "results.json", tmp_path / "new" / "sheet.png"
    path.write_text(json.dumps(content))
    arguments = ["--dataset", name, "--results", str(path), "--output", str(output)]
    assert tool.main(arguments) == 0
    with Image.open(output) as picture:
        assert picture.width > 2 * 384
    missing = [*arguments[:2], "--results", str(tmp_path / "none.json"), *arguments[4:]]
    assert tool.main(missing) == 2
    assert "none.json" in capsys.readouterr().err
