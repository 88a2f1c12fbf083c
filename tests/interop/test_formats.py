"""Every format is read back by our own reader, and by the program that it is for."""

import csv
import json
import os
import re
import time
from xml.etree.ElementTree import parse

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from glip_commands import detect
from glipv2_d2.data import load_records, register_detection_dataset
from glipv2_d2.data.datasets.detection_formats import detect_format
from glipv2_d2.errors import UsageError
from glipv2_d2.interop import FORMATS, DetectedImage, Detection, Labels, exports
from glipv2_d2.interop.formats import refuse_edited
from tests.support import ROOT

# format: (what is registered, further arguments, boxes are the same to so many pixels)
READ_BACK = {
    "coco": ("annotations.json", {}, 0),
    "yolo": ("data.yaml", {}, 0.01),  # six decimals of a side of 64
    "voc": ("", {}, 0),  # boxes of whole pixels
    "odvg": ("annotations.jsonl", {"label_map": "label_map.json"}, 0),
    "label-studio": ("tasks.json", {"predictions": True}, 0.01),
    "cvat": ("annotations.xml", {}, 0),
}


@pytest.fixture
def write(tmp_path):
    """write(format, labels) -> its folder."""

    def _write(name, labels):
        with exports(labels, [name], tmp_path):
            pass
        return tmp_path / name

    return _write


def registered(name, folder, labels):
    """Records of a format, as `glip finetune` and `glip eval` get them."""
    path, options, _ = READ_BACK[name]
    own_images = name in ("yolo", "voc")
    register_detection_dataset(
        f"interop_{name}",
        folder / path,
        None if own_images else labels.root,
        classes=labels.names if name == "label-studio" else None,
        reader_options=options,
    )
    return load_records(f"interop_{name}")


def boxes_of(records, names):
    """Real path of an image -> its (class name, xyxy, annotation)."""
    result = {}
    for record in records:
        found = [
            (names[a["category_id"]], BoxMode.convert(list(a["bbox"]), a["bbox_mode"], 0), a)
            for a in record["annotations"]
        ]
        result[os.path.realpath(record["file_name"])] = found
    return result


@pytest.mark.parametrize("name", READ_BACK)
@pytest.mark.parametrize("masks", [False, True])
def test_our_own_reader_finds_the_same(name, masks, write, make_labels):
    labels = make_labels(masks)
    folder = write(name, labels)
    records = registered(name, folder, labels)
    names = MetadataCatalog.get(f"interop_{name}").thing_classes
    assert set(names) == set(labels.names)
    assert name == "voc" or names == list(labels.names)
    assert len(records) == len(labels.images)
    found = boxes_of(records, names)
    for image, stem in zip(labels.images, labels.stems):
        path = os.path.realpath(image.file)
        if path not in found:  # a gif, which few tools read, became a png
            path = str(folder / {"voc": "JPEGImages"}.get(name, "images") / f"{stem}.png")
        expected = [(d.phrase, d.box) for d in image.detections]
        assert [phrase for phrase, _, _ in found[path]] == [phrase for phrase, _ in expected]
        for (_, box, annotation), detection in zip(found[path], image.detections):
            np.testing.assert_allclose(box, detection.box, rtol=0, atol=READ_BACK[name][2])
            if masks and name in ("coco", "cvat"):
                mask = mask_util.decode(annotation["segmentation"])
                assert (mask == mask_util.decode(detection.mask)).all()


@pytest.mark.parametrize("name", sorted(READ_BACK.keys() - {"label-studio"}))
def test_a_folder_is_recognized(name, write, make_labels):
    assert detect_format(write(name, make_labels())) == name


def test_pycocotools_reads_the_results(write, make_labels):
    labels = make_labels(masks=True)
    folder = write("coco-results", labels)
    truth = COCO(str(folder / "images.json"))
    found = truth.loadRes(str(folder / "results.json"))
    assert [c["name"] for c in truth.loadCats(truth.getCatIds())] == list(labels.names)
    files = [image["file_name"] for image in truth.loadImgs(truth.getImgIds())]
    assert files == ["a/1.png", "b/1.png", "b/1.bmp", "b/é n,t.gif"]
    first = found.loadAnns(found.getAnnIds(imgIds=[1]))
    assert [entry["score"] for entry in first] == [0.9, 0.25]
    assert found.annToMask(first[0]).sum() == 30 * 38 - 1


def test_new_labels_have_what_cocoeval_needs(write, make_labels):
    content = json.loads((write("coco", make_labels(masks=True)) / "annotations.json").read_text())
    (first, *_) = content["annotations"]
    assert (first["area"], first["score"], first["iscrowd"]) == (30 * 38 - 1, 0.9, 0)


@pytest.mark.parametrize("name", ["coco", "yolo", "voc"])
def test_supervision_reads_it(name, write, make_labels):
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    labels = make_labels()
    folder = write(name, labels)
    if name == "coco":
        found = sv.DetectionDataset.from_coco(labels.root, str(folder / "annotations.json"))
    elif name == "yolo":
        parts = (folder / part for part in ("images", "labels", "data.yaml"))
        found = sv.DetectionDataset.from_yolo(*map(str, parts))
    else:
        parts = (folder / part for part in ("JPEGImages", "Annotations"))
        found = sv.DetectionDataset.from_pascal_voc(*map(str, parts))
    assert set(found.classes) == set(labels.names) and len(found) == len(labels.images)
    by_image = {os.path.realpath(path): found.annotations[path] for path in found.image_paths}
    for image in labels.images[:3]:
        detections = by_image[os.path.realpath(image.file)]
        names = [found.classes[i] for i in detections.class_id]
        assert names == [d.phrase for d in image.detections]
        expected = [d.box for d in image.detections]
        np.testing.assert_allclose(detections.xyxy, expected, atol=0.01)  # YOLO's six decimals
    assert sum(len(detections) for detections in by_image.values()) == 5


def test_label_studio_gets_what_its_interface_shows(write, make_labels):
    folder = write("label-studio", make_labels())
    tasks = json.loads((folder / "tasks.json").read_text())
    assert tasks[3]["data"]["image"] == "/data/local-files/?d=b/%C3%A9%20n%2Ct.gif"
    assert tasks[3]["predictions"] == [{"model_version": "GLIP", "result": []}]
    region = tasks[0]["predictions"][0]["result"][1]
    assert region["value"] == {
        "x": 15.625, "width": 84.375, "y": 41.66667, "height": 58.33333, "rotation": 0,
        "rectanglelabels": ["no"],
    }  # fmt: skip
    view = (folder / "labeling_interface.xml").read_text(encoding="utf-8")
    assert '<RectangleLabels name="label" toName="image">' in view
    assert '<Label value="Füße &amp; &lt;Schuhe&gt;" />' in view


def test_voc_rounds_to_whole_pixels_from_1(write):
    boxes = [[0.4, 0.6, 10.4, 10.6], [9.6, 9.7, 10.0, 10.0], [3.2, 3.2, 3.3, 3.3]]
    image = DetectedImage("x.png", 10, 10, [Detection("cat", 0.5, box) for box in boxes])
    tree = parse(write("voc", Labels([image], read=None)) / "Annotations/x.xml")
    corners = [[int(corner.text) for corner in box] for box in tree.iter("bndbox")]
    assert corners == [[1, 2, 10, 10], [10, 10, 10, 10], [4, 4, 4, 4]]


def test_csv_and_crops(write, make_labels):
    labels = make_labels()
    with open(write("csv", labels) / "detections.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phrase"] for row in rows] == [
        d.phrase for i in labels.images for d in i.detections
    ]
    assert [float(rows[0][key]) for key in ("score", "x0", "y0", "x1", "y1")] == [0.9, 1, 2, 31, 40]
    with open(write("csv", labels) / "images.csv", encoding="utf-8", newline="") as file:
        assert [row["detections"] for row in csv.DictReader(file)] == ["2", "2", "1", "0"]
    folder = write("crops", labels)
    with open(folder / "crops.csv", encoding="utf-8", newline="") as file:
        crops = {row["crop"]: row for row in csv.DictReader(file)}
    assert list(crops) == [
        "cat,_black/a_1_png_1.jpg", "no/a_1_png_2.jpg", "a_b/b_1_png_1.jpg", "a_b_2/b_1_png_2.jpg",
        "Füße_&_Schuhe/b_1_bmp_1.jpg",
    ]  # fmt: skip
    for name, row in crops.items():
        box = [float(row[key]) for key in ("x0", "y0", "x1", "y1")]
        with Image.open(folder / name) as crop:
            assert crop.size == (box[2] - box[0], box[3] - box[1])


def test_an_image_that_is_gone_is_told_of(write, make_labels, caplog):
    labels = make_labels()
    gone = labels.images[0]._replace(file=labels.root + "/gone.png")
    folder = write("crops", Labels([gone, *labels.images[1:]]))
    assert "1 images have no crops: there is no image file" in caplog.text
    with open(folder / "crops.csv", encoding="utf-8", newline="") as file:
        assert [bool(row["crop"]) for row in csv.DictReader(file)] == [False, False, *[True] * 3]
    folder = write("yolo", Labels([gone, *labels.images[1:]]))
    assert "1 images are not beside their labels: there is no image file" in caplog.text
    assert len(list((folder / "labels").iterdir())) == 4
    assert len(list((folder / "images").iterdir())) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_labels_without_pixels_touch_no_image(name, write, make_labels):
    """As the web server writes them: the name of an upload is no path of the server."""
    labels = make_labels()
    alone = Labels(labels.images, labels.names, read=None)
    if name == "crops":
        with pytest.raises(UsageError, match="there are only labels"):
            write(name, alone)
        return
    files = [path for path in write(name, alone).rglob("*") if not path.is_dir()]
    assert files and not [
        f for f in files if f.suffix in (".png", ".bmp", ".gif") or f.is_symlink()
    ]


def test_an_export_is_replaced_as_a_whole(write, make_labels, tmp_path):
    labels = make_labels()
    write("yolo", labels)
    (tmp_path / ".exports-killed").mkdir()
    folder = write("yolo", Labels(labels.images[:1], labels.names))
    assert [path.name for path in (folder / "labels").iterdir()] == ["1.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["yolo"]
    with pytest.raises(RuntimeError), exports(labels, ["yolo"], tmp_path):
        raise RuntimeError("the report cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["yolo"]
    assert len(list((folder / "labels").iterdir())) == 1


def test_labels_that_somebody_has_corrected_are_not_replaced(write, make_labels, tmp_path):
    folder = write("yolo", make_labels())
    report = tmp_path / "detections.json"
    report.write_text("{}")
    refuse_edited(["yolo", "voc"], tmp_path, report)
    later = time.time() + 5
    os.utime(folder / "labels" / "b_1_png.txt", (later, later))
    with pytest.raises(UsageError, match=r"b_1_png.txt' was changed after .*: move '.*yolo' away"):
        refuse_edited(["voc", "yolo"], tmp_path, report)


def test_the_help_page_knows_the_formats():
    assert detect.FORMATS == tuple(FORMATS)


def test_the_page_reads_what_is_written(make_labels, tmp_path, monkeypatch):
    """The examples of docs/outputs.md, but those of pandas and of a model."""
    pytest.importorskip("supervision", reason="supervision is not installed")
    labels = make_labels()
    (tmp_path / "out").mkdir()
    with exports(labels, FORMATS, tmp_path / "out"):
        (tmp_path / "photos").symlink_to(labels.root)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    blocks = {
        mark: next(b for b in re.findall(r"```py(?:thon)?\n(.*?)```", page, re.S) if mark in b)
        for mark in ("register_detection_dataset(", "loadRes", "from_coco", "ImageFolder")
    }
    blocks["ImageFolder"] = re.sub(r".*(pandas|pd\.).*\n", "", blocks["ImageFolder"])
    found = {}
    for block in blocks.values():
        exec(block, found)
    for name in ("coco", "yolo", "voc", "odvg", "label_studio", "cvat"):
        records = load_records(name)
        assert [len(records), sum(len(r["annotations"]) for r in records)] == [4, 5], name
    assert len(found["found"].anns) == 5
    assert [len(data) for data in (found["coco"], found["yolo"], found["voc"])] == [4, 4, 4]
    assert len(found["crops"]) == 5 and len(found["crops"].classes) == 5
    for name in FORMATS:
        assert f"| `{name}` | `" in page
