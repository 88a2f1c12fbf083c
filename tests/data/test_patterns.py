"""Data sets of which most means something else: the run stops and says what and what to do."""

import json
from functools import partial
from itertools import islice

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from glip_commands.main import main
from glipv2_d2.data import (
    build_grounding_test_loader,
    build_grounding_train_loader,
    load_records,
    register_coco_dataset,
    register_grounding_dataset,
)
from glipv2_d2.data.checks import check_records
from glipv2_d2.data.report import REPLACED
from glipv2_d2.errors import DataError
from tests.support.data_fixtures import HEIGHT, WIDTH
from tests.support.pretraining_files import CAPTION
from tests.support.record_mapping import make_mapper


def boxes_anywhere(count=200, seed=0):
    """(count, 4) corners of boxes of a sixth to a half of the image's sides."""
    rng = np.random.default_rng(seed)
    size = np.array([WIDTH, HEIGHT]) * rng.uniform(1 / 6, 1 / 2, (count, 2))
    start = (np.array([WIDTH, HEIGHT]) - size) * rng.uniform(size=(count, 2))
    return np.concatenate([start, start + size], 1).round(2)


def sizes(corners):
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).round(2)


def records(boxes, mode=BoxMode.XYWH_ABS):
    return [
        {
            "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH, "image_id": i,
            "annotations": [{"bbox": box, "bbox_mode": mode, "category_id": 0, "iscrowd": 0}],
        }
        for i, box in enumerate(boxes.tolist())
    ]  # fmt: skip


def test_boxes_of_the_right_format_are_taken():
    for seed in range(20):
        corners = boxes_anywhere(seed=seed)
        for boxes, mode in ((sizes(corners), BoxMode.XYWH_ABS), (corners, BoxMode.XYXY_ABS)):
            assert len(check_records(records(boxes, mode), "set")) == 200


def test_boxes_that_are_drawn_over_the_border_are_taken():
    boxes = sizes(boxes_anywhere())
    boxes[:150, 2] += 10  # an eighth of the width
    assert len(check_records(records(boxes), "set")) == 200


SIDES = [WIDTH, HEIGHT, WIDTH, HEIGHT]
NORMALIZED = "200 of 200 boxes .* lie between 0 and 1, .*look normalized. Remedy: multiply x and"
CORNERS = (
    r"do not fit into their image as \[x, y, width, height\], and all of them do as corners "
    r".*in an image of 80x60. Remedy: width = x2 - x1, height = y2 - y1"
)
SIZES = (
    r"as corners \[x1, y1, x2, y2\], and all of them do as \[x, y, width, height\].*"
    r"Remedy: x2 = x1 \+ width"
)


@pytest.mark.parametrize("invalid", ["drop", "raise"])
@pytest.mark.parametrize(
    ("written", "mode", "message"),
    [
        (lambda corners: sizes(corners) / SIDES, BoxMode.XYWH_ABS, NORMALIZED),
        (lambda corners: corners / SIDES, BoxMode.XYXY_ABS, NORMALIZED),
        (lambda corners: corners, BoxMode.XYWH_ABS, CORNERS),
        (sizes, BoxMode.XYXY_ABS, SIZES),
    ],
)
def test_boxes_of_another_format_stop(written, mode, message, invalid):
    for seed in range(20):
        boxes = written(boxes_anywhere(seed=seed))
        with pytest.raises(DataError, match=message):
            check_records(records(boxes, mode), "set", invalid=invalid)


def edit_boxes(function):
    def edit(content):
        for entry in content["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = function(x + 40, y + 20, w - 5, h - 5)

    return edit


def each(**fields):
    def edit(content):
        for entry in content["annotations"]:
            entry.update(fields)

    return edit


PATTERNS = {
    "class names": (each(category_id="cat"), r"11 of 11 boxes cannot be used.*category_id='cat' "
                    r".*must be the number in 'id' of one of 'categories', not a name"),
    "no such images": (each(image_id="x"), "11 of 11 boxes.*'image_id' must be the 'id' of one"),
    "crowds": (each(iscrowd=1), "all 11 boxes have 'iscrowd' 1.*set it to 0"),
    "normalized": (edit_boxes(lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]),
                   "11 of 11 boxes .*look normalized"),
    "corners": (edit_boxes(lambda x, y, w, h: [x, y, x + w, y + h]), "do as corners"),
    "no boxes": (each(bbox=[]), r"11 of 11 boxes cannot be used.*in pixels of the image"),
    "larger images": (edit_boxes(lambda x, y, w, h: [9 * x, 9 * y, 9 * w, 9 * h]),
                      r"11 of 11 boxes cannot be used.*outside its image.*whose size the file"),
}  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("register", [register_coco_dataset, register_coco_instances])
def test_training_test_and_inspection_stop_alike(
    pattern, register, coco_json, images, tokenizer, capsys
):
    edit, message = PATTERNS[pattern]
    content = json.loads(coco_json.read_text())
    edit(content)
    coco_json.write_text(json.dumps(content))
    register("most", *([{}] if register is register_coco_instances else []), str(coco_json),
             str(images))  # fmt: skip
    with pytest.raises(DataError, match=message) as train:
        build_grounding_train_loader("most", mapper=make_mapper(tokenizer), total_batch_size=1)
    with pytest.raises(DataError) as test:
        build_grounding_test_loader("most", mapper=make_mapper(tokenizer, False))
    assert str(test.value) == str(train.value)
    assert main(["inspect", "most"]) == 2
    assert capsys.readouterr().err == f"error: {train.value}\n"


@pytest.mark.parametrize(("bad", "stops"), [(5, False), (6, True)])
def test_more_than_half_left_out_stops(bad, stops, coco_json, images):
    content = json.loads(coco_json.read_text())
    for entry in content["annotations"][:bad]:
        entry["bbox"][2] = 0
    coco_json.write_text(json.dumps(content))
    register_coco_dataset("half", str(coco_json), str(images))
    if stops:
        with pytest.raises(DataError, match="6 of 11 boxes cannot be used: left out 6 annot"):
            load_records("half")
    else:
        assert sum(len(r["annotations"]) for r in load_records("half")) == 6


def test_images_without_objects_only_beside_others(coco_json, images, tokenizer):
    content = json.loads(coco_json.read_text())
    empty = coco_json.with_name("empty.json")
    empty.write_text(json.dumps({**content, "annotations": []}))
    register_coco_dataset("empty", str(empty), str(images))
    register_coco_dataset("some", str(coco_json), str(images))
    with pytest.raises(DataError, match=r"no image of \['empty'\] has a box"):
        build_grounding_train_loader("empty", mapper=make_mapper(tokenizer), total_batch_size=1)
    both = ["empty", "some"]
    build_grounding_train_loader(both, mapper=make_mapper(tokenizer), total_batch_size=1)


def test_captions_without_one_box_teach_nothing(datasets, mdetr_json, tokenizer):
    content = json.loads(mdetr_json.read_text())
    mdetr_json.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(DataError, match=r"no image of \['tiny_grounding'\] has a box"):
        build_grounding_train_loader(datasets[1], mapper=make_mapper(tokenizer), total_batch_size=1)
    build_grounding_train_loader(list(datasets), mapper=make_mapper(tokenizer), total_batch_size=1)


def own_records(images, scale=1):
    """What a function of one's own may give to DatasetCatalog: NumPy's numbers, one by one."""
    for i in range(3):
        box = np.array([5, 5, 25, 35]) / scale
        yield {
            "file_name": str(images / f"{i}.png"), "image_id": i,
            "height": np.int64(HEIGHT), "width": np.int32(WIDTH),
            "annotations": [
                {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": np.int64(1),
                 "iscrowd": np.int64(0)}
            ],
        }  # fmt: skip


def test_records_of_ones_own_function(images, tokenizer):
    for name, scale in (("own", 1), ("own_normalized", 100)):
        DatasetCatalog.register(name, partial(own_records, images, scale))
        MetadataCatalog.get(name).thing_classes = ["cat", "dog"]
    loader = build_grounding_train_loader("own", mapper=make_mapper(tokenizer), total_batch_size=3)
    batch = next(iter(loader))
    assert sorted(sample["image_id"] for sample in batch) == [0, 1, 2]
    for sample in batch:
        assert [sample["prompt"].class_ids[i] for i in sample["instances"].gt_classes] == [1]
    with pytest.raises(DataError, match="3 of 3 boxes that were looked at lie between 0 and 1"):
        load_records("own_normalized")


def test_annotations_of_images_that_were_taken_out_do_not_count(coco_json, images):
    content = json.loads(coco_json.read_text())
    del content["images"][3:]
    coco_json.write_text(json.dumps(content))
    register_coco_dataset("subset", str(coco_json), str(images))
    assert [len(r["annotations"]) for r in load_records("subset")] == [1, 1, 1]


def test_undrawable_polygons_cost_no_box(coco_json, images, tokenizer):
    content = json.loads(coco_json.read_text())
    for entry in content["annotations"]:
        entry["segmentation"] = [[5.0, 5.0, 25.0, 35.0]]
    coco_json.write_text(json.dumps(content))
    register_coco_dataset("lines", str(coco_json), str(images))
    loader = build_grounding_train_loader(
        "lines", mapper=make_mapper(tokenizer), total_batch_size=12
    )
    assert sum(len(sample["instances"]) for sample in next(iter(loader))) == 11


def test_lazy_data_sets_are_judged_by_what_is_looked_at(images, tmp_path, tokenizer):
    regions = [{"bbox": [0.1, 0.2, 0.5, 0.6], "phrase": "caterpillar"}]
    lines = [
        {"filename": f"{i}.png", "height": HEIGHT, "width": WIDTH,
         "grounding": {"caption": CAPTION, "regions": regions}}
        for i in range(12)
    ]  # fmt: skip
    path = tmp_path / "lazy.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    register_grounding_dataset(
        "lazy", str(path), str(images), "odvg", reader_options={"lazy": True}
    )
    with pytest.raises(DataError, match="12 records looked at: 12 of 12 boxes .*normalized"):
        build_grounding_train_loader("lazy", mapper=make_mapper(tokenizer), total_batch_size=1)


def test_one_class_and_an_image_with_crowds_only(coco_json, images, tokenizer, caplog):
    """What is in a crowd must not be called absent, and there is no other class to ask for."""
    content = json.loads(coco_json.read_text())
    content["categories"] = content["categories"][:1]
    for entry in content["annotations"]:
        entry["category_id"] = 1
    content["annotations"][4]["iscrowd"] = 1
    coco_json.write_text(json.dumps(content))
    register_coco_dataset("one_class", str(coco_json), str(images))
    for invalid in ("drop", "raise"):
        loader = build_grounding_train_loader(
            "one_class", mapper=make_mapper(tokenizer), total_batch_size=4, seed=0, invalid=invalid
        )
        seen = [sample["image_id"] for batch in islice(loader, 3) for sample in batch]
        assert sorted(seen) == sorted(5 if i == 4 else i for i in range(12))
        assert loader.dataset.report.totals()[REPLACED] == 1
    assert "1 so far of" in caplog.text and "nothing to ask for" in caplog.text
