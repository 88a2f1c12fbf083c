"""COCO's caption json and Karpathy's splits, sound and not."""

import json

import pytest
from PIL import Image

from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
    load_records,
    register_grounding_dataset,
)
from glipv2_d2.data.datasets.coco_captions import load_coco_captions, load_karpathy_json
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError


@pytest.fixture
def captions_json(tmp_path):
    """Two images, one with two captions; edit(content) changes the file before it is written."""

    def write(edit=lambda content: None):
        content = {
            "images": [
                {"id": 9, "file_name": "9.png", "height": 20, "width": 30},
                {"id": 4, "file_name": "4.png", "height": 20, "width": 30},
            ],
            "annotations": [
                {"id": 70, "image_id": 4, "caption": "A dog.\n"},
                {"id": 71, "image_id": 9, "caption": "Ein Café"},
                {"id": 72, "image_id": 4, "caption": "the dog"},
            ],
        }
        edit(content)
        path = tmp_path / "captions.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def karpathy_json(tmp_path):
    sentences = [{"raw": "A dog .", "tokens": ["a", "dog"], "imgid": 0, "sentid": 50}]
    images = [
        {"filepath": "val2014", "filename": f"COCO_val2014_{i:012d}.jpg", "imgid": i, "cocoid": i,
         "split": split, "sentids": [50], "sentences": sentences}
        for i, split in enumerate(("train", "restval", "test", "val"), start=1)
    ]  # fmt: skip
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return path


def test_a_record_for_each_caption(captions_json):
    records = load_coco_captions(captions_json(), "images", "name")
    assert records[1] == {
        "file_name": "images/4.png", "height": 20, "width": 30, "image_id": 70,
        "original_img_id": 4, "task": "caption", "caption": "A dog.\n", "dataset_name": "name",
    }  # fmt: skip
    assert [record["image_id"] for record in records] == [71, 70, 72]


def test_a_record_for_each_image(captions_json):
    first, second = load_coco_captions(captions_json(), "images", to_write=True)
    assert (first["image_id"], first["references"]) == (9, ["Ein Café"])
    assert second["references"] == ["A dog.\n", "the dog"]
    assert "caption" not in second and second["task"] == "caption"


def test_a_test_set_without_captions(captions_json):
    path = captions_json(lambda content: content.pop("annotations"))
    assert [r["references"] for r in load_coco_captions(path, "", to_write=True)] == [[], []]
    with pytest.raises(DataError, match="no captions to learn.*Train on another split"):
        load_coco_captions(path, "")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: c["annotations"][0].update(caption=" \n"),
            r"\[0\] \(id 70\): the caption is ' ",
        ),
        (lambda c: c["annotations"][0].pop("caption"), r"\[0\] \(id 70\): the caption is None"),
        (lambda c: c["annotations"][0].update(caption="a \ud83d"), "the caption is"),
        (lambda c: c["annotations"].append("a dog"), r"annotations\[3\]: 'a dog' is no json"),
        (lambda c: c["images"].append({"id": 5}), "images.2., image 5 .*'file_name' is missing"),
    ],
)
def test_what_is_wrong_is_left_out_or_stops(captions_json, edit, message, caplog):
    path = captions_json(edit)
    records = load_coco_captions(path, "")
    assert {record["image_id"] for record in records} >= {71, 72}
    assert "left out 1 record" in caplog.text
    with pytest.raises(DataError, match=rf"captions\.json: .*{message}"):
        load_coco_captions(path, "", report=Report(mode="raise"))
    # A test over fewer references is another test.
    with pytest.raises(DataError, match=message):
        load_coco_captions(path, "", report=Report(drop_records=False), to_write=True)


def test_images_without_captions(captions_json):
    """They teach nothing, which is no fault; but what is written for them cannot be scored. And
    somebody may have taken images out of the file."""
    path = captions_json(lambda content: content["annotations"][1].update(image_id=1234))
    report = Report(mode="raise")
    assert len(load_coco_captions(path, "", report=report)) == 2
    assert report.kinds.keys() == {"unknown image", "image without captions"}
    with pytest.raises(DataError, match="image 9: it has no captions"):
        load_coco_captions(path, "", report=Report(drop_records=False), to_write=True)


def test_nothing_but_empty_captions(captions_json, tmp_path):
    def empty(content):
        for entry in content["annotations"]:
            entry["caption"] = ""

    register_grounding_dataset("empty", captions_json(empty), str(tmp_path), "coco_captions")
    with pytest.raises(DataError, match="has no images that can be used: .*3 x empty caption"):
        load_records("empty")


def test_karpathy_splits(karpathy_json):
    train = load_karpathy_json(str(karpathy_json), "coco", splits=["train", "restval"])
    assert [record["original_img_id"] for record in train] == [1, 2]
    assert train[0] == {
        "file_name": "coco/val2014/COCO_val2014_000000000001.jpg", "image_id": 50,
        "original_img_id": 1, "task": "caption", "caption": "A dog .",
    }  # fmt: skip
    (test,) = load_karpathy_json(str(karpathy_json), "coco", splits=["test"], to_write=True)
    assert (test["image_id"], test["references"]) == (3, ["A dog ."])
    with pytest.raises(DataError, match=r"no image with a caption in the splits \['dev'\]"):
        load_karpathy_json(str(karpathy_json), "coco", splits=["dev"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cocoid", [3], r"images\[2\]: the field 'cocoid': \[3\] is neither a number nor a text"),
        ("cocoid", None, "the field 'cocoid': None is neither"),
        ("filepath", 2014, "the field 'filepath' is 2014"),
    ],
)
def test_karpathy_s_fields_of_another_type(karpathy_json, field, value, message):
    content = json.loads(karpathy_json.read_text())
    content["images"][2][field] = value
    karpathy_json.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load_karpathy_json(str(karpathy_json), "", splits=["test"], report=Report(mode="raise"))


def test_karpathy_s_flickr30k(karpathy_json):
    """No folders, no ids but the names."""
    content = json.loads(karpathy_json.read_text())
    for number, image in enumerate(content["images"]):
        del image["filepath"], image["cocoid"]
        image["filename"] = f"{1000 + number}.jpg"
    del content["images"][3]["sentences"]
    karpathy_json.write_text(json.dumps(content))
    (test,) = load_karpathy_json(str(karpathy_json), "flickr", splits=["test"], to_write=True)
    assert (test["file_name"], test["image_id"]) == ("flickr/1002.jpg", 1002)
    with pytest.raises(DataError, match=r"images\[3\]: .*'sentences' \(a list\) are missing"):
        load_karpathy_json(str(karpathy_json), "", splits=["val"], report=Report(mode="raise"))


def test_loaders_take_them(captions_json, karpathy_json, tokenizer, tmp_path):
    """Sizes that the file does not tell are those of the images."""
    for name in ("4.png", "9.png", "val2014/COCO_val2014_000000000003.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    folder = str(tmp_path)
    register_grounding_dataset("learn", captions_json(), folder, "coco_captions")
    options = {"splits": ["test"], "to_write": True}
    register_grounding_dataset(
        "write", str(karpathy_json), folder, "karpathy", reader_options=options
    )
    mapper = GroundingDatasetMapper(is_train=True, augmentations=[], tokenizer=tokenizer)
    loader = build_grounding_train_loader(["learn"], mapper=mapper, total_batch_size=2)
    sample = next(iter(loader))[0]
    assert (sample["prompt"].kind, len(sample["prompt"])) == ("caption", 0)
    assert "instances" not in sample
    mapper = GroundingDatasetMapper(is_train=False, augmentations=[], tokenizer=tokenizer)
    (batch,) = build_grounding_test_loader("write", mapper=mapper, batch_size=2)
    assert (batch[0]["height"], batch[0]["width"]) == (20, 30)
    assert batch[0]["prompt"][0].caption == ""
