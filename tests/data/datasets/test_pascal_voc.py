"""Pascal VOC's xml as tools write it: pixels from 1 or 0, names of images, what is wrong."""

import pytest
from PIL import Image

from glipv2_d2.data import load_records, register_detection_dataset
from glipv2_d2.data.datasets.pascal_voc import parse_xml, read_voc
from glipv2_d2.data.report import RecordError, Report
from glipv2_d2.errors import DataError
from tests.support.detection_exports import IMAGES, roboflow_voc, voc, voc_text, write_images

BOX = [(0, 5, 5, 20, 30)]


@pytest.fixture
def one(tmp_path):
    """one(the text of its xml) -> (the record, or None; the report), of a 60 x 80 image a.png."""
    write_images(tmp_path)

    def _one(text, name="a.xml"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        report = Report()
        records = read_voc(str(tmp_path), str(tmp_path), report).records
        return next(iter(records), None), report

    return _one


def box(record):
    return record["annotations"][0]["bbox"]


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((1, 1, 80, 60), [0, 0, 80, 60]),  # from 1, both corners inside: the whole image
        ((0, 0, 80, 60), [0, 0, 80, 60]),  # there is no pixel 0 when they count from 1
        ((5.5, 6, 10, 12), [5.5, 6, 4.5, 6]),  # a corner between two pixels is no pixel
        ((6, 6, 10, 12), [5, 5, 5, 7]),
    ],
)
def test_pixels_from_1_or_from_0(one, corners, expected):
    text = voc_text("a.png", BOX)
    for tag, old, new in zip(("xmin", "ymin", "xmax", "ymax"), (6, 6, 25, 35), corners):
        text = text.replace(f"<{tag}>{old}<", f"<{tag}>{new}<")
    assert box(one(text)[0]) == expected


def test_one_count_for_the_whole_data_set(tmp_path):
    roboflow_voc(tmp_path)
    register_detection_dataset("from_0", tmp_path / "train")
    assert load_records("from_0")[0]["annotations"][0]["bbox"] == [5, 5, 20, 30]
    for file in (tmp_path / "train").glob("a*.xml"):  # the image with a box at 0
        file.unlink()
    register_detection_dataset("from_1", tmp_path / "train")
    # The other one has a box that begins at 0 too in no coordinate.
    assert load_records("from_1")[0]["annotations"][0]["bbox"] == [9, 19, 41, 26]


def test_difficult_objects_are_neither_trained_on_nor_counted(one):
    text = voc_text("a.png", [*BOX, *BOX]).replace("<difficult>0", "<difficult>1", 1)
    record, report = one(text)
    assert [a["iscrowd"] for a in record["annotations"]] == [1, 0] and not report.kinds


def test_a_polygon_of_roboflow(one):
    points = "<polygon><x1>5</x1><y1>5</y1><x2>25</x2><y2>5</y2><x3>25</x3><y3>35</y3></polygon>"
    record, _ = one(voc_text("a.png", BOX).replace("</bndbox>", f"</bndbox>{points}"))
    assert record["annotations"][0]["segmentation"] == [[5, 5, 25, 5, 25, 35]]


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height><depth>3</depth></size>"]
)
def test_a_size_that_is_missing_is_that_of_the_image(one, size):
    text = voc_text("a.png", BOX)
    begin, end = text.index("<size>"), text.index("</size>") + len("</size>")
    record, _ = one(text[:begin] + size + text[end:])
    assert (record["height"], record["width"]) == (60, 80)


def test_images_are_found_by_the_name_of_their_file_first(one, tmp_path):
    """Copied and renamed files keep the old name inside."""
    record, _ = one(voc_text("b.png", BOX, "C:\\old\\b.png"))
    assert record["file_name"] == str(tmp_path / "a.png")
    record, _ = one(voc_text("b.png", BOX, "b"), "elsewhere.xml")
    (tmp_path / "a.xml").unlink()
    record, _ = one(voc_text("b.png", BOX, "C:\\old\\b.png"), "elsewhere.xml")
    assert record["file_name"] == str(tmp_path / "b.png")


def test_images_of_one_name_in_two_folders(tmp_path):
    for folder in ("x", "y"):
        write_images(tmp_path / "JPEGImages" / folder)
        (tmp_path / "Annotations" / folder).mkdir(parents=True)
        for image, (_, boxes) in IMAGES.items():
            text = voc_text(image, boxes if folder == "x" else BOX)
            (tmp_path / "Annotations" / folder / image).with_suffix(".xml").write_text(text)
    register_detection_dataset("two_folders", tmp_path)
    assert [len(r["annotations"]) for r in load_records("two_folders")] == [3, 3, 0, 1, 1, 1]
    (tmp_path / "Annotations" / "x" / "a.xml").rename(tmp_path / "Annotations" / "a.xml")
    report = Report()
    records = read_voc(str(tmp_path), str(tmp_path / "JPEGImages"), report).records
    assert len(list(records)) == 5
    assert "'a' may be " in report.kinds["several images of one name"][1]


def test_an_xml_of_another_encoding_and_a_byte_order_mark(one):
    text = voc_text("a.png", BOX).replace("bolt", "écrou")
    record, _ = one(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert record["annotations"][0]["label"] == "écrou"
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>'
    record, _ = one((head + text).encode("latin-1"))
    assert record["annotations"][0]["label"] == "écrou"


@pytest.mark.parametrize(
    ("edit", "kind", "message"),
    [
        (lambda t: t[:-20], "no valid xml", "no xml that can be read"),
        (lambda t: t.replace("annotation>", "page>"), "other xml", "begins with <page>"),
        (lambda t: "<!DOCTYPE a [<!ENTITY b 'c'>]>" + t, "xml with entities", "<!ENTITY"),
    ],
)
def test_a_file_that_cannot_be_used(one, edit, kind, message):
    record, report = one(edit(voc_text("a.png", BOX)))
    assert record is None and message in report.kinds[kind][1] and report.records == 1


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda t: t.replace("<name>bolt</name>", ""), "missing field"),
        (lambda t: t.replace("<xmin>6</xmin>", ""), "bad annotation"),
        (lambda t: t.replace("<xmin>6<", "<xmin>six<"), "bad annotation"),
    ],
)
def test_an_object_that_cannot_be_used(one, edit, kind):
    record, report = one(edit(voc_text("a.png", BOX)))
    assert record["annotations"] == [] and "a.xml: object 0" in report.kinds[kind][1]


def test_faults_of_boxes_are_told_as_in_any_data_set(tmp_path, caplog):
    voc(tmp_path)
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<xmax>25<", "<xmax>3<"))
    Image.new("RGB", (80, 60)).save(tmp_path / "JPEGImages" / "lonely.png")
    register_detection_dataset("faulty", tmp_path)
    assert [len(r["annotations"]) for r in load_records("faulty")] == [2, 3, 0]
    assert "1 x reversed box" in caplog.text


def test_a_list_that_names_nothing(tmp_path):
    voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("x\n")
    register_detection_dataset("empty", tmp_path, split="test")
    with pytest.raises(DataError, match="there are no xml files of 'test'"):
        load_records("empty")


def test_an_xml_that_is_not_there(tmp_path):
    with pytest.raises(RecordError, match="nothing.xml: no xml that can be read"):
        parse_xml(str(tmp_path / "nothing.xml"))
