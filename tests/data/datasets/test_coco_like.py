import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances

from glipv2_d2.data import load_records, register_coco_dataset, register_detection_dataset
from glipv2_d2.data.datasets.coco_like import load_coco_style_json
from glipv2_d2.data.loading import training_records
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError
from tests.support.pretraining_files import edited


def register_detectron2(name, json_file, image_root):
    register_coco_instances(name, {}, json_file, image_root)


def test_the_same_records_as_detectron2(coco_json, images):
    def edit(content):
        content["images"].reverse()
        content["annotations"][1]["segmentation"] = {"size": [60, 80], "counts": "abc"}
        content["annotations"][2]["segmentation"] = [[1, 2, 3, 4]]  # no polygon, but a box
        content["annotations"][3]["segmentation"] = [[1, 2, 3, 4], [1, 1, 9, 1, 9, 9]]
        content["annotations"][4]["iscrowd"] = 1
        for category in content["categories"]:
            category["id"] *= 10
        for annotation in content["annotations"]:
            annotation["category_id"] *= 10

    path = edited(coco_json, edit)
    theirs = load_coco_json(path, str(images), "theirs")
    ours = load_coco_style_json(path, str(images), "ours")
    for record in ours:
        assert record.pop("dataset_name") == "ours"
        for annotation in record["annotations"]:
            assert isinstance(annotation.pop("id"), int)
    box = {"bbox": [5, 5, 20, 30], "bbox_mode": 1, "category_id": 2, "iscrowd": 0}
    assert theirs[2]["annotations"] == [] and ours[2]["annotations"] == [box]
    del theirs[2], ours[2]
    assert ours == theirs
    for field in ("thing_classes", "thing_dataset_id_to_contiguous_id"):
        assert MetadataCatalog.get("ours").get(field) == MetadataCatalog.get("theirs").get(field)


def test_a_test_set_without_annotations(coco_json, images):
    path = edited(coco_json, lambda content: content.pop("annotations"))
    register_coco_instances("tiny_unannotated", {}, path, str(images))
    records = load_records("tiny_unannotated", invalid="raise", drop_records=False)
    assert len(records) == 12 and not any("annotations" in record for record in records)
    assert [r["image_id"] for r in records] == list(range(12))
    with pytest.raises(DataError, match="'tiny_unannotated' .* has no annotations, so it"):
        training_records("tiny_unannotated", Report())


def test_federated_negatives_are_kept(coco_json, images):
    path = edited(coco_json, lambda c: c["images"][3].update(neg_category_ids=[2]))
    records = load_coco_style_json(path, str(images))
    assert records[3]["neg_category_ids"] == [2] and "neg_category_ids" not in records[0]


def test_other_class_names(coco_json, images):
    names = ["lion", "tiger", "puma"]
    options = {"classes": names}
    register_coco_dataset("tiny_coco_style", str(coco_json), str(images), reader_options=options)
    load_records("tiny_coco_style")
    assert MetadataCatalog.get("tiny_coco_style").thing_classes == names
    with pytest.raises(DataError, match=r"has 3 entries \(cat, .*2 class names are known \(lion"):
        load_coco_style_json(str(coco_json), str(images), classes=names[:2])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["categories"].clear(), "'categories' is empty"),
        (lambda c: c["categories"][1].update(id=1), "category 1: the field 'id' is 1 as that of"),
        (lambda c: c["categories"][1].pop("id"), "category 1: the field 'id' is missing"),
        (lambda c: c["categories"][1].update(name=" "), "category 1 .id 2.: the field 'name'"),
        (lambda c: c.pop("categories"), "not in COCO's format: .*categories"),
        (lambda c: c["categories"][2].update(id=5), "do not fit thing_dataset_id_to_contiguous_id"),
        (lambda c: c["categories"][1].update(name="x"), "do not fit thing_classes in the metadata"),
    ],
)
@pytest.mark.parametrize("invalid", ["drop", "raise"])
def test_bad_categories_stop_in_any_case(coco_json, images, edit, message, invalid):
    ids = {1: 0, 2: 1, 3: 2}
    names = ["cat", "caterpillar", "cat_food"]
    register_coco_dataset(
        "tiny_coco_style",
        edited(coco_json, edit),
        str(images),
        thing_classes=names,
        thing_dataset_id_to_contiguous_id=ids,
    )
    with pytest.raises(DataError, match=message):
        load_records("tiny_coco_style", invalid=invalid)


@pytest.mark.parametrize(
    ("edit", "message", "images_left", "boxes_left"),
    [
        (lambda c: c["images"][1].update(id=0), "image 0 .*'id' is that of 2", 10, 9),
        (lambda c: c["images"][1].pop("file_name"), "'file_name' is missing", 11, 10),
        (lambda c: c["annotations"][1].update(image_id=77), "'image_id' is that of no", 12, 10),
        (lambda c: c["annotations"].append(c["annotations"][0]), "id 1.: it is equal", 12, 11),
        (lambda c: c["annotations"][1].pop("category_id"), "category_id=None", 12, 10),
        (lambda c: c["annotations"][1].pop("bbox"), "'bbox' is missing", 12, 10),
        (lambda c: c["annotations"][1].update(bbox=[9, 9, -3, 4]), "reversed", 12, 10),
    ],
)
def test_bad_entries(coco_json, images, caplog, edit, message, images_left, boxes_left):
    register_coco_dataset("tiny_coco_style", edited(coco_json, edit), str(images))
    records = load_records("tiny_coco_style")
    assert len(records) == images_left
    assert sum(len(r["annotations"]) for r in records) == boxes_left
    assert len(caplog.records) == 1 and "coco.json" in caplog.records[0].getMessage()
    with pytest.raises(DataError, match=message):
        load_records("tiny_coco_style", invalid="raise")


def test_used_directly_what_is_wrong_is_left_out_too(coco_json, images, caplog):
    """An evaluator calls DatasetCatalog.get."""
    path = edited(coco_json, lambda c: c["annotations"][1].update(image_id=77))
    register_coco_dataset("tiny_coco_style", path, str(images))
    assert len(DatasetCatalog.get("tiny_coco_style")) == 12
    assert "left out 1 annotation: 1 x unknown image" in caplog.text


def test_files_of_windows_editors_and_folders(coco_json, images):
    coco_json.write_bytes(b"\xef\xbb\xbf" + coco_json.read_bytes())
    assert len(load_coco_style_json(str(coco_json), str(images))) == 12
    with pytest.raises(DataError, match="images' cannot be read: Is a directory"):
        load_coco_style_json(str(images), str(images))


@pytest.mark.parametrize("with_masks", [True, False])
def test_ids_of_any_kind_and_entries_of_none(coco_json, images, caplog, with_masks):
    def edit(content):
        content["images"][2]["id"] = "two"
        content["annotations"][2]["image_id"] = "two"
        content["images"].append(["no", "object"])
        content["annotations"].append(None)
        content["annotations"][5]["image_id"] = [5]

    path = edited(coco_json, edit)
    records = load_coco_style_json(path, str(images), with_masks=with_masks)
    assert [r["image_id"] for r in records] == [0, 1, *range(3, 12), "two"]
    assert len(records[-1]["annotations"]) == 1 and not records[4]["annotations"]
    for text in ("1 record and 2 annotations", "2 x no json object", "['no', 'object'] is no json",
                 "1 x unknown image", "of no image: [5]"):  # fmt: skip
        assert text in caplog.text


@pytest.mark.parametrize(
    "register", [register_coco_dataset, register_detection_dataset, register_detectron2]
)
def test_without_masks_the_same_boxes(coco_json, images, register):
    def edit(content):
        content["annotations"][1]["segmentation"] = [[5, 5, 9**9, 5, 25, 25]]
        content["annotations"][2]["keypoints"] = [1, 2, 2]

    path = edited(coco_json, edit)
    register("tiny_coco_style", path, str(images))
    whole = load_records("tiny_coco_style")
    for record in whole:
        for annotation in record["annotations"]:
            assert ("segmentation" in annotation) == (annotation["id"] != 2)
            annotation.pop("segmentation", None)
    bare = load_records("tiny_coco_style", invalid="raise", with_masks=False)
    assert bare == whole and bare[2]["annotations"][0]["keypoints"] == [1, 2, 2]
    with pytest.raises(DataError, match="at least three corners x, y in or near"):
        load_records("tiny_coco_style", invalid="raise")


def test_large_ids_and_numbers_that_json_does_not_have(coco_json, images):
    large = 2**127 + 1  # as uuid4().int; as floats it and the next one would be equal

    def edit(content):
        content["images"][1]["id"], content["images"][2]["id"] = large, large + 1
        content["annotations"][1]["image_id"] = large
        content["annotations"][2]["image_id"] = large + 1

    edited(coco_json, edit)
    text = coco_json.read_text()
    for more in ("", ', "score": NaN'):  # Python's own json writes it
        coco_json.write_text(text.replace('"category_id": ', f'"extra": 1{more}, "category_id": '))
        records = load_coco_style_json(str(coco_json), str(images))
        assert [r["image_id"] for r in records[-2:]] == [large, large + 1]
        assert [len(r["annotations"]) for r in records[-2:]] == [1, 1]
