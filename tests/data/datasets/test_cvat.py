"""CVAT's xml: every shape, the images of sub-folders and projects, what is no box."""

from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog
from pycocotools import mask as mask_util

from glipv2_d2.data import load_records, register_detection_dataset
from glipv2_d2.data.datasets.cvat import read_cvat
from glipv2_d2.data.datasets.detection_formats import export_splits
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError
from tests.support.detection_exports import cvat, cvat_text, write_images

COMMON = 'label="bolt" source="manual" occluded="0" z_order="0"'


@pytest.fixture
def shaped(tmp_path):
    """shaped(elements of a.png) -> (its annotations, the report)."""
    write_images(tmp_path / "parts")

    def _shaped(elements, edit=lambda text: text):
        path = tmp_path / "annotations.xml"
        path.write_text(edit(cvat_text({"a.png": elements})))
        report = Report()
        records = list(read_cvat(str(path), str(tmp_path), report).records)
        return records[0]["annotations"] if records else None, report

    return _shaped


def test_a_rotated_box_is_the_box_around_it(shaped):
    """90 degrees about the center (30, 20)."""
    box = f'<box {COMMON} xtl="20.0" ytl="15.0" xbr="40.0" ybr="25.0" rotation="90.00"/>'
    (annotation,), _ = shaped(box)
    assert annotation["bbox"] == [25, 10, 10, 20] and "segmentation" not in annotation


def test_a_polygon_and_an_ellipse_are_masks(shaped):
    found, report = shaped(
        f'<polygon {COMMON} points="10.5,10.0;20.0,10.0;20.0,30.0"/>'
        f'<ellipse {COMMON} cx="40.0" cy="30.0" rx="20.0" ry="10.0" rotation="90.00"/>'
    )
    assert found[0]["segmentation"] == [[10.5, 10, 20, 10, 20, 30]]
    assert found[0]["bbox"] == [10.5, 10, 9.5, 20]
    assert found[1]["bbox"] == [30, 10, 20, 40] and not report.kinds


def test_a_mask_goes_row_by_row_through_its_box(shaped):
    (found,), _ = shaped(
        f'<mask {COMMON} rle="1, 2, 2, 1" left="10" top="20" width="3" height="2"/>'
    )
    mask = mask_util.decode(found["segmentation"])
    assert mask.shape == (60, 80) and mask.sum() == 3 and found["bbox"] == [10, 20, 3, 2]
    assert mask[20:22, 10:13].tolist() == [[0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("element", "kind", "message"),
    [
        (f'<points {COMMON} points="1,2"/>', "shape without a box", "<points> is no box"),
        (f'<mask {COMMON} rle="5" left="0" top="0" width="3" height="2"/>', "bad annotation", ""),
        (f'<polygon {COMMON} points="1,2;3,4"/>', "bad annotation", "this one has 2"),
        (f'<box {COMMON} xtl="1" ytl="2" xbr="3"/>', "missing field", "'ybr' is missing"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_used(shaped, element, kind, message):
    found, report = shaped(element)
    assert found == [] and report.annotations == 1
    assert "image 0 (parts/a.png): " in report.kinds[kind][1] and message in report.kinds[kind][1]


def test_a_tag_is_about_the_image(shaped):
    found, report = shaped('<tag label="blurred" source="manual"/>')
    assert found == [] and not report.kinds


def test_classes_are_the_labels_that_have_boxes(tmp_path, caplog):
    path = cvat(tmp_path)
    more = "<label><name>blurred</name><type>tag</type></label><label><name>cog</name></label>"
    point = "<label><name>1</name><type>points</type><parent>cog</parent></label>"
    text = path.read_text().replace("</labels>", f"{more}{point}</labels>")
    path.write_text(text.replace('<box label="nut"', '<box label="gone"', 1))
    register_detection_dataset("parts", path)
    assert [len(r["annotations"]) for r in load_records("parts")] == [2, 3, 0]
    assert MetadataCatalog.get("parts").thing_classes == ["bolt", "nut", "cog"]
    assert "box 1: the class 'gone' is none of the 3 of the data set" in caplog.text


def test_images_of_one_name_in_two_subsets(tmp_path):
    """Of a project: CVAT writes `images/<subset>/<name>`."""
    for subset in ("train", "val"):
        write_images(tmp_path / "images" / subset)
    text = cvat_text({}).replace("parts/", "")
    path = tmp_path / "annotations.xml"
    for subset in ("train", "val"):
        path.write_text(text.replace("<image ", f'<image subset="{subset}" '))
        records = list(read_cvat(str(path), str(tmp_path / "images"), Report()).records)
        assert all(f"images/{subset}/" in record["file_name"] for record in records)
    path.write_text(text)
    report = Report()
    assert not list(read_cvat(str(path), str(tmp_path / "images"), report).records)
    assert report.kinds["several images of one name"][0] == 3


def test_a_size_that_is_missing_is_that_of_the_image(shaped):
    found, _ = shaped("", lambda text: text.replace('width="80" height="60"', ""))
    assert found == []


def test_other_xml_is_refused(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text('<annotations><meta/><track id="0" label="bolt"/></annotations>')
    with pytest.raises(DataError, match="an export 'CVAT for video': export the task as"):
        read_cvat(str(path), "", Report())
    path.write_text("<annotations/>")
    with pytest.raises(DataError, match="annotations.xml: it has no <image>"):
        read_cvat(str(path), "", Report())
    path.write_text("<annotations>")
    with pytest.raises(DataError, match="no xml that can be read"):
        read_cvat(str(path), "", Report())


def with_subsets(tmp_path, *subsets):
    """An export of a project whose images, in order, are in these subsets; None: in none."""
    path = cvat(tmp_path)
    text = path.read_text()
    for number, subset in enumerate(subsets):
        if subset is not None:
            text = text.replace(f'<image id="{number}"', f'<image id="{number}" subset="{subset}"')
    path.write_text(text)
    return path


def test_subsets_are_the_splits(tmp_path, caplog):
    path = with_subsets(tmp_path, "Train", "Validation", "Train")
    assert export_splits(path) == export_splits(path.parent) == ("train", "val")
    register_detection_dataset("cvat_train", path)
    register_detection_dataset("cvat_val", path.parent, split="val")
    files = [
        [Path(r["file_name"]).name for r in load_records(n)] for n in ("cvat_train", "cvat_val")
    ]
    assert files == [["a.png", "c.png"], ["b.png"]] and "in no subset" not in caplog.text
    classes = [MetadataCatalog.get(name).thing_classes for name in ("cvat_train", "cvat_val")]
    assert classes[0] == classes[1]
    with pytest.raises(DataError, match="has no 'test': only train, val"):
        register_detection_dataset("cvat_test", path, split="test")


def test_images_of_no_subset_are_told(tmp_path, caplog):
    path = with_subsets(tmp_path, "train", "valid", "default")
    register_detection_dataset("cvat_some", path)
    assert len(load_records("cvat_some")) == 1
    assert "1 images are in no subset of train, val, test: left out" in caplog.text


@pytest.mark.parametrize("subsets", [(None, None, None), ("Train",) * 3, ("default",) * 3])
def test_one_subset_is_no_split(tmp_path, subsets):
    path = with_subsets(tmp_path, *subsets)
    assert export_splits(path) == ()
    register_detection_dataset(f"cvat_{subsets[0]}", path)
    assert len(load_records(f"cvat_{subsets[0]}")) == 3
    with pytest.raises(DataError, match="has no 'val': it is not split into subsets"):
        register_detection_dataset("cvat_none", path, split="val")
