"""What labeling tools export is recognized, read alike, trained on and scored."""

import json

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from glipv2_d2.data import (
    detect_format,
    load_records,
    register_detection_dataset,
)
from glipv2_d2.data.datasets.detection_formats import export_splits
from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.evaluation import build_evaluator
from tests.support.detection_exports import (
    IMAGES,
    NAMES,
    coco,
    every_export,
    odvg,
    roboflow_coco,
    roboflow_yolo,
    voc,
    yolo,
)

EXPORTS = pytest.mark.parametrize(
    ("kind", "write"), [pytest.param(*e, id=e[1].__name__) for e in every_export()]
)
NAMED = ("cvat", "label_studio", "labelme", "voc")  # formats whose labels are names


def boxes_of(name):
    """[(class, x, y, w, h)] of each image, in the order of the records."""
    records = load_records(name, invalid="raise", check_files=True)
    names = MetadataCatalog.get(name).thing_classes
    return [
        sorted(
            (names[a["category_id"]], *BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYWH_ABS))
            for a in record["annotations"]
        )
        for record in records
    ]


EXPECTED = [sorted((NAMES[c], *box) for c, *box in boxes) for _, boxes in IMAGES.values()]


@EXPORTS
def test_every_export_gives_the_same_records(kind, write, tmp_path):
    path = write(tmp_path)
    assert detect_format(path) == kind
    for _ in range(2):  # the same once more changes nothing
        register_detection_dataset("exported", path)
    found = boxes_of("exported")
    for got, expected in zip(found, EXPECTED, strict=True):
        assert [box[0] for box in got] == [box[0] for box in expected]
        # Labels of six digits in an image of 80 pixels: half of 80e-6, and then hundredths.
        for ours, theirs in zip(got, expected):
            assert ours[1:] == pytest.approx(theirs[1:], abs=1e-2)
    sizes = [(r["height"], r["width"]) for r in load_records("exported")]
    assert sizes == [size for size, _ in IMAGES.values()]


@EXPORTS
def test_perfect_predictions_get_ap_100(kind, write, tmp_path):
    register_detection_dataset("exported", write(tmp_path))
    evaluator = build_evaluator("exported", distributed=False)
    evaluator.reset()
    for record in load_records("exported"):
        boxes = [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
            for a in record["annotations"]
        ]
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.ones(len(boxes))
        found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    results = evaluator.evaluate()["bbox"]
    for metric in ("AP", "AP-bolt", "AP-nut"):
        assert results[metric] == pytest.approx(100)


def test_a_split_is_chosen(tmp_path):
    for name, write in (("voc", voc), ("yolo", roboflow_yolo), ("coco", roboflow_coco)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    assert export_splits(tmp_path / "yolo") == export_splits(tmp_path / "yolo" / "data.yaml")
    assert export_splits(tmp_path / "yolo") == ("train", "val")  # test is in the yaml alone
    assert export_splits(tmp_path / "coco") == export_splits(tmp_path / "voc") == ("train", "val")
    assert export_splits(tmp_path / "coco" / "valid") == ()
    register_detection_dataset("voc_val", tmp_path / "voc", split="val")
    assert boxes_of("voc_val") == EXPECTED[1:2]
    register_detection_dataset("yolo_val", tmp_path / "yolo", split="val")
    assert len(boxes_of("yolo_val")) == 2
    register_detection_dataset("coco_val", tmp_path / "coco", split="val")
    assert MetadataCatalog.get("coco_val").image_root == str(tmp_path / "coco" / "valid")
    register_detection_dataset("yolo_test", tmp_path / "yolo", split="test")
    with pytest.raises(DataError, match=r"data.yaml: there is no '../test/images'; looked for"):
        load_records("yolo_test")
    with pytest.raises(DataError, match="has no 'test', only train, val: name the folder"):
        register_detection_dataset("coco_test", tmp_path / "coco", split="test")
    with pytest.raises(DataError, match="test.txt; .*Main has train, val"):
        register_detection_dataset("voc_test", tmp_path / "voc", split="test")
        load_records("voc_test")
    with pytest.raises(DataError, match="has no splits"):
        register_detection_dataset("one", tmp_path / "coco" / "valid", split="val")
    with pytest.raises(UsageError, match="unknown split 'vall', known: train, val, test"):
        register_detection_dataset("one", tmp_path / "coco", split="vall")


def test_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        detect_format(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="has none of the formats .*voc, yolo.*Name the file"):
        detect_format(tmp_path)
    (tmp_path / "export.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="unpack it first"):
        detect_format(tmp_path / "export.zip")
    (tmp_path / "page.xml").write_text("<html/>")
    with pytest.raises(DataError, match="page.xml has none of the formats"):
        detect_format(tmp_path / "page.xml")
    with pytest.raises(UsageError, match="unknown format 'mdetr' .*register_grounding_dataset"):
        register_detection_dataset("one", tmp_path, format="mdetr")


def test_images_that_are_not_beside_the_annotations(tmp_path):
    path = coco(tmp_path / "here")
    (tmp_path / "here" / "images").rename(tmp_path / "far")
    with pytest.raises(DataError, match="first image, 'a.png', is neither in .*image_root"):
        register_detection_dataset("far", path)
    register_detection_dataset("far", path, tmp_path / "far")
    assert boxes_of("far") == EXPECTED


@pytest.mark.parametrize("write", [coco, odvg])
@pytest.mark.parametrize("elsewhere", ["/content/drive/data/", "C:\\data\\", "images/train/"])
def test_images_are_found_by_the_end_of_a_name_from_another_computer(
    write, elsewhere, tmp_path, caplog
):
    path = write(tmp_path)
    text = path.read_text()
    for name in IMAGES:
        text = text.replace(json.dumps(name), json.dumps(elsewhere + name))
    path.write_text(text)
    (folder,) = {file.parent for file in tmp_path.rglob("a.png")}
    register_detection_dataset("from_elsewhere", path, folder)
    assert boxes_of("from_elsewhere") == EXPECTED
    assert "3 images are taken by the end of their name; the first: " in caplog.text
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match="missing image file|does not exist"):
        load_records("from_elsewhere", invalid="raise", check_files=True)


def test_images_of_one_name_are_not_guessed(tmp_path):
    path = coco(tmp_path)
    path.write_text(path.read_text().replace('"a.png"', '"/content/a.png"'))
    (folder,) = {file.parent for file in tmp_path.rglob("a.png")}
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "a.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "a.png").unlink()
    register_detection_dataset("twice", path, folder)
    with pytest.raises(DataError, match="'/content/a.png' may be '.*one/a.png' or '.*two/a.png'"):
        load_records("twice", invalid="raise")


@EXPORTS
def test_other_class_names(kind, write, tmp_path, caplog):
    classes = ["nut"] if kind in NAMED else NAMES if kind == "odvg" else ["screw", "washer"]
    classes = ["project", *classes] if write is roboflow_coco else classes
    register_detection_dataset("named", write(tmp_path), classes=classes)
    records = load_records("named")
    assert MetadataCatalog.get("named").thing_classes == classes
    assert sum(len(r["annotations"]) for r in records) == (3 if kind in NAMED else 6)
    told = "3 annotations of classes that are not asked for, left out: ['bolt 3']"
    assert (told in caplog.text) == (kind in NAMED)


def test_classes_that_do_not_fit_their_numbers(tmp_path):
    register_detection_dataset("named", yolo(tmp_path), classes=["one"])
    with pytest.raises(DataError, match="2 classes are numbered .*'bolt', 'nut'.* 1 names are"):
        load_records("named")


def test_captions_are_no_boxes(tmp_path):
    path = odvg(tmp_path)
    line = {"filename": "a.png", "height": 60, "width": 80, "grounding": {"caption": "a nut"}}
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    register_detection_dataset("mixed", path)
    with pytest.raises(DataError, match="has captions .*register_grounding_dataset"):
        load_records("mixed")


def test_a_label_map(tmp_path):
    path = odvg(tmp_path)
    (tmp_path / "map.json").write_text('{"0": "bolt", "1": "nut", "2": "cog"}')
    register_detection_dataset("mapped", path, reader_options={"label_map": "map.json"})
    assert boxes_of("mapped") == EXPECTED
    assert MetadataCatalog.get("mapped").thing_classes == [*NAMES, "cog"]
