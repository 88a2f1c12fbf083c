"""`glip inspect` as a user runs it, on small data sets in every format."""

import json

import pytest
from PIL import Image

from glip_commands.main import main
from tests.support.detection_exports import roboflow_yolo


@pytest.fixture
def annotated(tmp_path):
    """Three pictures, and a COCO json, an MDETR json and an ODVG jsonl of them."""
    for i in range(3):
        Image.new("RGB", (80, 60), (90, 90, 40 * i)).save(tmp_path / f"{i}.jpg")
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80} for i in range(3)]
    boxes = [{"id": i, "image_id": i, "bbox": [5, 5, 30, 40], "category_id": 1} for i in range(3)]
    coco = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 1, "name": "hot_dog"}, {"id": 2, "name": "cat"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    mdetr = {
        "images": [{**image, "caption": "a red kite above a dog"} for image in images],
        "annotations": [{**b, "tokens_positive": [[2, 10]]} for b in boxes],
        "categories": [],
    }
    (tmp_path / "mdetr.json").write_text(json.dumps(mdetr))
    line = {"filename": "0.jpg", "height": 60, "width": 80}
    line["detection"] = {"instances": [{"bbox": [1, 1, 9, 9], "label": 0, "category": "cat"}]}
    (tmp_path / "odvg.jsonl").write_text(json.dumps(line) + "\n")
    return tmp_path


def arguments(folder, name, kind, *more):
    given = ["--json", str(folder / name), "--images", str(folder), "--format", kind]
    return ["inspect", *given, *more]


def test_a_coco_json(annotated, capsys):
    output = annotated / "out"
    assert main(arguments(annotated, "coco.json", "coco", "--output", str(output))) == 0
    printed = capsys.readouterr().out
    assert "coco: 3 usable records of 3" in printed and "problems: none" in printed
    assert "hot_dog 3" in printed and "2, 1 without boxes" in printed
    assert "'hot dog': 1 boxes, tokens" in printed and "hot dog" in printed
    assert "test: the same 1 prompts as above" in printed
    assert sorted(p.name for p in output.glob("*.png")) == [
        "000.png",
        "001.png",
        "002.png",
        "samples.png",
    ]
    assert (output / "report.txt").read_text() in printed


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [("mdetr.json", "mdetr", "'red kite': 1 boxes"), ("odvg.jsonl", "odvg", "'cat': 1 boxes")],
)
def test_other_formats(annotated, capsys, name, kind, expected):
    assert main(arguments(annotated, name, kind, "--samples", "1")) == 0
    assert expected in capsys.readouterr().out


def test_an_export_by_its_path_and_a_split_that_shares_images(tmp_path, capsys):
    folder = str(roboflow_yolo(tmp_path))
    assert main(["inspect", folder, "--split", "val", "--samples", "1"]) == 0
    printed = capsys.readouterr().out
    assert "2 usable records of 2" in printed and "classes: 2, 0 without boxes" in printed
    assert main(["inspect", folder, "--split", "val", "--against", folder, "--samples", "1"]) == 1
    assert "warning: 2 of 2 images are in " in (printed := capsys.readouterr().out)
    assert "train/images/a.png'. What is trained on must not be tested on" in printed
    assert main(["inspect", folder, "--split", "test"]) == 2
    assert "there is no '../test/images'" in capsys.readouterr().err


def test_problems_are_the_exit_status(annotated, capsys):
    (annotated / "1.jpg").unlink()
    assert main(arguments(annotated, "mdetr.json", "mdetr")) == 1
    assert "problem: 1 x missing image file; the first: " in capsys.readouterr().out
    (annotated / "2.jpg").write_bytes(b"damaged")
    assert main(arguments(annotated, "coco.json", "coco", "--check-images")) == 1
    printed = capsys.readouterr().out
    assert "unreadable image" in printed and "1 usable records of 3" in printed
    (annotated / "coco.json").write_text("{")
    assert main(arguments(annotated, "coco.json", "coco")) == 2
    assert "no valid json" in capsys.readouterr().err


def test_doubtful_classes_are_told_by_name(annotated, capsys):
    content = json.loads((annotated / "coco.json").read_text())
    content["categories"] = [
        {"id": 0, "name": "food", "supercategory": "none"},
        {"id": 1, "name": "hot_dog (ok)", "supercategory": "food"},
        {"id": 2, "name": "Hot dog", "supercategory": "food"},
    ]
    (annotated / "coco.json").write_text(json.dumps(content))
    assert main(arguments(annotated, "coco.json", "coco", "--samples", "1")) == 1
    printed = capsys.readouterr().out
    assert "problems: none" not in printed
    assert "warning: classes that are written alike" in printed
    assert "'hot_dog (ok)' (id 1) = 'Hot dog' (id 2)." in printed
    assert "warning: classes without a box that look like an exporter's own: 'food'" in printed


def test_a_test_set_without_annotations(annotated, capsys):
    content = json.loads((annotated / "coco.json").read_text())
    del content["annotations"]
    (annotated / "coco.json").write_text(json.dumps(content))
    assert main(arguments(annotated, "coco.json", "coco", "--output", str(annotated / "out"))) == 0
    printed = capsys.readouterr().out
    assert "no annotations, 2 classes: a test set" in printed
    assert "test: 1 prompts" in printed and "training, a" not in printed


def test_pseudo_labels_and_what_changed(caption_tsv, capsys):
    rows = (caption_tsv.parent / "labels.tsv").read_text().splitlines()
    rows[0] = rows[0].replace("0.6", "0.06")
    (caption_tsv.parent / "now.tsv").write_text("".join(row + "\n" for row in rows))
    (caption_tsv.parent / "now.yaml").write_text("img: images.tsv\nlabel: now.tsv\n")
    labels = [str(caption_tsv.parent / "now.yaml"), "--format", "glip_tsv"]
    for option in ("min_score=0.3", "min_boxes=0"):
        labels += ["--option", option]
    output = caption_tsv.parent / "out"
    more = ["--changes-from", str(caption_tsv), "--output", str(output)]
    main(["inspect", *labels, *more, "--samples", "2"])
    printed = capsys.readouterr().out
    assert (
        "captions without a box: 0 of 4 (0.0%); phrases with boxes per caption: 1 to 2" in printed
    )
    assert (
        "different phrases: 3, 2 of them with a single box; most boxes: 'caterpillar' 4" in printed
    )
    assert "scores: 0.40 to 0.99, median 0.85; above 0.1: 6 boxes, 4 captions; 0.3: 6" in printed
    assert "changes: 4 captions are in both sets, 1 with another label; 0 only in this" in printed
    assert "boxes: 6 kept, 0 moved, 0 gained, 1 lost\nmost lost: 'green leaf' 1\n" in printed
    table = (output / "phrases.csv").read_text().splitlines()
    assert table[:2] == ["phrase,captions,boxes,mean score", "caterpillar,3,4,0.675"]
    assert (output / "changes.csv").read_text().splitlines()[:2] == [
        "phrase,kept,moved,gained,lost",
        "green leaf,1,0,0,1",
    ]
    with Image.open(output / "labels.png") as histograms, Image.open(output / "changes.png") as two:
        assert histograms.width > 2 * histograms.height and two.width == 990  # 2 x 480 and margins


def test_a_registered_name(annotated, capsys):
    (annotated / "my.py").write_text(
        "from detectron2.data.datasets import register_coco_instances\n"
        f"register_coco_instances('my_inspected', {{}}, '{annotated}/coco.json', '{annotated}')\n"
    )
    assert main(["inspect", "my_inspected", "--register", str(annotated / "my.py")]) == 0
    assert "my_inspected: 3 usable records" in capsys.readouterr().out
    assert main(["inspect", "nothing_of_this_name"]) == 2
    assert (
        "no data set named 'nothing_of_this_name', nor a file or folder: register"
        in capsys.readouterr().err
    )
    assert main(["inspect"]) == 2
    assert "give either the NAME" in capsys.readouterr().err
    assert main(arguments(annotated, "odvg.jsonl", "odvg", "--option", "lazy")) == 2
    assert "KEY=VALUE" in capsys.readouterr().err
    options = ["--option", 'label_map={"0": "lion"}']
    assert main(arguments(annotated, "odvg.jsonl", "odvg", *options)) == 2  # nothing is left
    assert "boxes cannot be used" in (refusal := capsys.readouterr().err)
    assert "name and id differ" in refusal
