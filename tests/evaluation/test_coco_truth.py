"""The truth is what training reads: perfect predictions get AP 100 on whatever both can read."""

import copy
import json
import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.structures.masks import polygons_to_bitmask
from pycocotools import mask as mask_util

from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
    load_records,
    register_coco_dataset,
)
from glipv2_d2.data.survey import survey
from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.evaluation.coco_truth import load_coco_truth
from tests.support.annotation_tools import EXPORTERS, HEIGHT, OBJECTS, WIDTH, polygon, write_images

MASKED = {"cvat", "labelme"}


@pytest.fixture
def write_export(tmp_path):
    """write(name, exporter, edit=..., register=...) -> path; registered."""

    def _write(name, make, edit=None, register=register_coco_dataset):
        files, content = make()
        if edit is not None:
            edit(content)
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        images = write_images(tmp_path / "images", files)
        arguments = ({},) if register is register_coco_instances else ()
        register(name, *arguments, str(path), images)
        return str(path)

    return _write


def perfect(record, masks=False):
    """What is labeled, as predictions."""
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], 0) for a in record["annotations"]]
    result = Instances((HEIGHT, WIDTH))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.linspace(0.9, 0.5, len(boxes))
    result.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
    if masks:
        found = [_bitmask(a["segmentation"]) for a in record["annotations"]]
        result.pred_masks = torch.tensor(found).reshape(-1, HEIGHT, WIDTH)
    return result


def _bitmask(mask):
    if isinstance(mask, list):
        return polygons_to_bitmask(mask, HEIGHT, WIDTH).tolist()
    return mask_util.decode(mask_util.frPyObjects(mask, HEIGHT, WIDTH)).astype(bool).tolist()


def evaluate(name, masks=False, records=None):
    evaluator = build_evaluator(name, distributed=False)
    evaluator.reset()
    for record in load_records(name, drop_records=False) if records is None else records:
        inputs = {"image_id": record["image_id"]}
        evaluator.process([inputs], [{"instances": perfect(record, masks)}])
    return evaluator.evaluate()


def mapper(tokenizer, is_train):
    return GroundingDatasetMapper(
        is_train=is_train,
        augmentations=[T.ResizeShortestEdge(48, max_size=100)],
        tokenizer=tokenizer,
        full_prompt_prob=1.0,
    )


@pytest.mark.parametrize("register", [register_coco_dataset, register_coco_instances])
@pytest.mark.parametrize("tool", EXPORTERS)
def test_what_annotation_tools_write(tool, register, write_export, tokenizer):
    name = f"{tool}_export"
    write_export(name, EXPORTERS[tool], register=register)
    loader = build_grounding_train_loader(
        name, mapper=mapper(tokenizer, True), total_batch_size=3, seed=0
    )
    names = MetadataCatalog.get(name).thing_classes
    taught = [
        names[sample["prompt"].class_ids[k]]
        for sample in next(iter(loader))
        for k in sample["instances"].gt_classes.tolist()
    ]
    assert sorted(taught) == ["bolt", "bolt", "nut", "nut"]
    test = list(build_grounding_test_loader(name, mapper=mapper(tokenizer, False)))
    assert len(test) == 3
    results = evaluate(name, masks=tool in MASKED)
    for metric in ("AP", "APs", "AP-bolt", "AP-nut"):
        assert results["bbox"][metric] == pytest.approx(100)
    if tool in MASKED:
        assert results["segm"]["AP"] == pytest.approx(100)
    assert survey(name).problems.kinds == {}


def each(field, change):
    """An edit of every annotation; without a change the field is removed."""

    def edit(content):
        for entry in content["annotations"]:
            if change is None:
                del entry[field]
            else:
                entry[field] = change(entry[field])

    return edit


def texts(content, name=str):
    for entry in (*content["images"], *content["categories"], *content["annotations"]):
        for field in ("id", "image_id", "category_id"):
            if field in entry:
                entry[field] = name(entry[field])


def image_texts(content, name=lambda i: f"frame_{i}"):
    for entry in content["images"]:
        entry["id"] = name(entry["id"])
    for entry in content["annotations"]:
        entry["image_id"] = name(entry["image_id"])


ONE_MEANING = {
    "no iscrowd": each("iscrowd", None),
    "no area": each("area", None),
    "no annotation ids": each("id", None),
    "iscrowd null": each("iscrowd", lambda _: None),
    "iscrowd false": each("iscrowd", lambda _: False),
    "iscrowd text": each("iscrowd", str),
    "area null": each("area", lambda _: None),
    "area text": each("area", str),
    "area NaN": each("area", lambda _: float("nan")),
    "annotation ids from 0": each("id", lambda i: i - 1),
    "annotation ids all equal": each("id", lambda _: 7),
    "annotation ids of lists": each("id", lambda i: [i]),
    "annotation ids of letters": each("id", lambda i: "abcdef"[i]),
    "bbox of texts": each("bbox", lambda box: [str(v) for v in box]),
    "all ids texts": texts,
    "all ids floats": lambda c: texts(c, float),
    "only annotations' image ids texts": each("image_id", str),
    "only annotations' category ids texts": each("category_id", str),
    "image ids of letters": image_texts,
    "image ids mixed": lambda c: image_texts(c, lambda i: f"frame_{i}" if i == 2 else i),
    "image ids with zeros": lambda c: image_texts(c, lambda i: f"{i:012d}"),
    "no info": lambda c: c.pop("info"),
    "no masks": each("segmentation", lambda _: []),
    "masks without points": each("segmentation", lambda _: [[]]),
    "polygons of two points": each("segmentation", lambda _: [[1.0, 2.0, 3.0, 4.0]]),
    "mask of another size": each("segmentation", lambda _: {"size": [9, 9], "counts": [81]}),
}


@pytest.mark.parametrize("case", ONE_MEANING)
@pytest.mark.parametrize("register", [register_coco_dataset, register_coco_instances])
def test_what_has_one_meaning_is_filled_in(case, register, write_export):
    write_export("one_meaning", EXPORTERS["cvat"], ONE_MEANING[case], register)
    records = load_records("one_meaning", invalid="drop")
    boxes = [[a["bbox"] for a in r["annotations"]] for r in records]
    a, b = [[list(box) for image, _, *box in OBJECTS if image == i] for i in range(2)]
    assert boxes == ([a, [], b] if case == "image ids mixed" else [a, b, []])  # texts come last
    assert not any(a.get("iscrowd", 0) for r in records for a in r["annotations"])
    results = evaluate("one_meaning", records=records)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["bbox"]["APs"] == pytest.approx(100)  # by the area


def test_records_of_detectron2s_own_reader(write_export):
    """As in a run with the stock loaders; it keeps the category ids as texts."""
    write_export("stock_reader", EXPORTERS["cvat"], texts, register_coco_instances)
    records = DatasetCatalog.get("stock_reader")
    ids = MetadataCatalog.get("stock_reader").thing_dataset_id_to_contiguous_id
    assert ids == {"1": 0, "2": 1}
    results = evaluate("stock_reader", records=records)
    assert results["bbox"]["AP"] == pytest.approx(100)


NO_MEANING = {
    "empty bbox": ("bbox", [], "'bbox' is missing or empty"),
    "bbox null": ("bbox", None, "'bbox' is missing or empty"),
    "three numbers": ("bbox", [1, 2, 3], "not four numbers"),
    "words": ("bbox", ["1", "2", "3", "four"], "not four numbers"),
    "reversed": ("bbox", [50, 50, -20, -20], "is reversed"),
    "no area": ("bbox", [5, 5, 0, 10], "no area"),
    "outside": ("bbox", [500, 5, 10, 10], "wholly outside"),
    "iscrowd": ("iscrowd", 2, "'iscrowd' is 2, neither 0 nor 1"),
    "iscrowd text": ("iscrowd", "no", "'iscrowd' is 'no', neither"),
    "class": ("category_id", "bolt", "category_id='bolt' is not in 'categories'"),
}


@pytest.mark.parametrize("case", NO_MEANING)
def test_what_has_none_is_refused_in_the_same_words_everywhere(case, write_export, caplog):
    field, value, message = NO_MEANING[case]
    path = write_export(
        "no_meaning", EXPORTERS["cvat"], lambda c: c["annotations"][3].update({field: value})
    )
    with pytest.raises(DataError, match=rf"{message}.*invalid='drop'"):
        load_records("no_meaning", invalid="raise")
    found = survey("no_meaning")
    assert any(message in line for line in found.lines())
    assert message in caplog.text and sum(len(r["annotations"]) for r in found.usable) == 3
    caplog.clear()
    truth = load_coco_truth(path)
    assert [a["id"] for a in truth.dataset["annotations"]] == [1, 2, 3]
    assert message in caplog.text and "left out 1 annotation" in caplog.text
    assert evaluate("no_meaning")["bbox"]["AP"] == pytest.approx(100)


def test_the_truth_of_a_sound_file_is_the_file(write_export, caplog):
    def edit(content):
        content["annotations"][3]["bbox"][2] = 25.5  # beyond the image: not clipped
        content["annotations"][2]["iscrowd"] = 1
        content["annotations"][0]["area"] = 12345.5  # of the exporter's own

    path = write_export("sound", EXPORTERS["cvat"], edit)
    with open(path) as file:
        content = json.load(file)
    assert load_coco_truth(path).dataset == content
    assert not caplog.messages  # nothing is left out or clipped


def test_a_missing_area_is_that_of_the_mask_or_else_of_the_box(write_export):
    triangle = [10, 10, 30, 10, 30, 30]

    def edit(content):
        each("area", None)(content)
        content["annotations"][0]["segmentation"] = [triangle]
        content["annotations"][1]["segmentation"] = []
        content["annotations"][3]["segmentation"] = [[1, 2, 3, 4]]

    truth = load_coco_truth(write_export("areas", EXPORTERS["cvat"], edit))
    masks = mask_util.merge(mask_util.frPyObjects([triangle], HEIGHT, WIDTH))
    areas = [a["area"] for a in truth.dataset["annotations"]]
    assert areas == [mask_util.area(masks), 30 * 40, 40 * 35, 19 * 9]
    assert 170 < areas[0] < 230  # half of 20 x 20


def test_an_annotation_that_is_written_twice_is_one_object(write_export, caplog):
    """As in COCO's minival2014; with an id of its own it is a second object."""

    def edit(content):
        content["annotations"].append(copy.deepcopy(content["annotations"][0]))
        content["annotations"].append({**content["annotations"][1], "id": 99})

    path = write_export("twice", EXPORTERS["cvat"], edit)
    assert [len(r["annotations"]) for r in load_records("twice")] == [3, 2, 0]
    assert [a["id"] for a in load_coco_truth(path).dataset["annotations"]] == [1, 2, 99, 3, 4]
    assert "1 x annotation written twice" in caplog.text


def test_masks_are_not_compared_with_objects_that_have_none(write_export, caplog):
    write_export("bare", EXPORTERS["cvat"], lambda c: c["annotations"][0].update(segmentation=[]))
    records = load_records("bare")
    for record in records:
        for annotation in record["annotations"]:
            annotation.setdefault("segmentation", [polygon(5, 5, 20, 30)])
    with caplog.at_level(logging.WARNING):
        results = evaluate("bare", masks=True, records=records)
    assert set(results) == {"bbox"} and results["bbox"]["AP"] == pytest.approx(100)
    assert "1 of 4 objects in the ground truth have no mask" in caplog.text
    assert "annotation 1 of image 1" in caplog.text


def test_backslashes_are_folders_only_where_no_file_has_them(write_export, tmp_path):
    write_export("slashes", EXPORTERS["label_studio"])
    assert all((tmp_path / "images" / r["file_name"]).is_file() for r in load_records("slashes"))
    (tmp_path / "images" / "images\\a4f5e6d7c-photo.jpg").write_bytes(b"")
    first, second, _ = load_records("slashes")
    assert "\\" in first["file_name"] and "\\" not in second["file_name"]
