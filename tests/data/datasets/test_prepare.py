"""The converters below datasets/, on a handful of rows of each release."""

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

from glipv2_d2.data.datasets.coco_like import load_coco_style_json
from glipv2_d2.language.answers import read_answers

FOLDER = Path(__file__).resolve().parents[3] / "datasets"


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def openimages(tmp_path):
    (tmp_path / "class-descriptions-boxable.csv").write_text(
        "/m/011k07,Tortoise\n/m/011q46kg,Container\n/m/012074,Magpie\n"
    )
    (tmp_path / "oidv6-train-annotations-bbox.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,"
        "IsGroupOf,IsDepiction,IsInside\n"
        "00a,xclick,/m/012074,1,0.25,0.5,0.1,0.6,0,0,0,0,0\n"
        "00a,xclick,/m/011k07,1,0,1,0,1,0,0,1,0,0\n"
        "00a,xclick,/m/unknown,1,0,1,0,1,0,0,1,0,0\n"
        "00b,xclick,/m/011k07,1,0,1,0,1,0,0,0,0,0\n"
    )
    (tmp_path / "train-annotations-human-imagelabels-boxable.csv").write_text(
        "ImageID,Source,LabelName,Confidence\n"
        "00a,verification,/m/011q46kg,0\n00a,verification,/m/012074,1\n"
        "00c,verification,/m/011k07,0\n"
    )
    (tmp_path / "train").mkdir()
    for name in ("00a", "00c"):
        Image.new("RGB", (200, 100)).save(tmp_path / "train" / f"{name}.jpg")
    return tmp_path


def test_openimages(openimages, capsys):
    assert script("prepare_openimages").main(["--root", str(openimages)]) == 0
    assert "2 images, 2 boxes; 1 images left out" in capsys.readouterr().out
    path = openimages / "annotations" / "openimages_train.json"
    first, second = load_coco_style_json(str(path), "train", "openimages_tiny")
    assert first["file_name"] == "train/00a.jpg" and (first["height"], first["width"]) == (100, 200)
    assert [a["bbox"] for a in first["annotations"]] == [[50, 10, 50, 50], [0, 0, 200, 100]]
    assert [a["iscrowd"] for a in first["annotations"]] == [0, 1]
    assert [a["category_id"] for a in first["annotations"]] == [2, 0]
    assert first["neg_category_ids"] == [2] and second["neg_category_ids"] == [1]
    assert second["annotations"] == []
    (openimages / "class-descriptions-boxable.csv").unlink()
    assert script("prepare_openimages").main(["--root", str(openimages)]) == 2
    assert "class-descriptions-boxable.csv" in capsys.readouterr().err


def test_openimages_rows_that_are_not_sorted(openimages):
    path = openimages / "oidv6-train-annotations-bbox.csv"
    path.write_text(path.read_text() + "00a,xclick,/m/012074,1,0,1,0,1,0,0,0,0,0\n")
    assert script("prepare_openimages").main(["--root", str(openimages)]) == 2
    assert not list((openimages / "annotations").iterdir())  # no half of a file


def test_visual_genome(tmp_path, capsys):
    def thing(name, box):
        return {"object_id": 1, "names": [name], "synsets": [], **dict(zip("xywh", box))}

    objects = [
        {"image_id": 1, "objects": [thing("Tree", (1, 2, 3, 4)), thing("dog", (5, 6, 7, 8))]},
        {"image_id": 2, "objects": [thing("tree ", (1, 2, 3, 4)), thing("yeti", (5, 6, 7, 8))]},
        {"image_id": 3, "objects": [thing("dog", (1, 2, 3, 4))]},
    ]
    url = "https://cs.stanford.edu/people/rak248/VG_100K_2/{}.jpg"
    images = [
        {"image_id": i, "url": url.format(i), "width": 80, "height": 60, "coco_id": coco}
        for i, coco in ((1, None), (2, None), (3, 17))
    ]
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    (tmp_path / "image_data.json").write_text(json.dumps(images))
    arguments = ["--root", str(tmp_path), "--classes", "2", "--val", "1", "--without-coco"]
    assert script("prepare_visual_genome").main(arguments) == 0
    records = []
    for split in ("train", "val"):
        path = tmp_path / "annotations" / f"visual_genome_no_coco_{split}.json"
        assert [c["name"] for c in json.loads(path.read_text())["categories"]] == ["dog", "tree"]
        found = load_coco_style_json(str(path), "vg")
        assert len(found) == 1
        records += found
    records.sort(key=lambda record: record["image_id"])
    assert [r["file_name"] for r in records] == ["vg/VG_100K_2/1.jpg", "vg/VG_100K_2/2.jpg"]
    assert [[a["category_id"] for a in r["annotations"]] for r in records] == [[1, 0], [1]]
    assert records[0]["annotations"][1]["bbox"] == [5, 6, 7, 8]
    assert script("prepare_visual_genome").main(arguments[:-1]) == 0  # beside them
    files = sorted(path.name for path in (tmp_path / "annotations").iterdir())
    assert files == [
        "visual_genome_no_coco_train.json", "visual_genome_no_coco_val.json",
        "visual_genome_train.json", "visual_genome_val.json",
    ]  # fmt: skip
    both = json.loads((tmp_path / "annotations/visual_genome_train.json").read_text())["images"]
    assert len(both) == 2  # of three, one is val's
    (tmp_path / "objects.json").unlink()
    assert script("prepare_visual_genome").main(arguments) == 2


def test_imagenet_boxes(tmp_path, capsys):
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    )
    folder = tmp_path / "Annotations" / "train" / "n01443537"
    folder.mkdir(parents=True)
    (folder / "n01443537_2.xml").write_text(
        "<annotation><filename>n01443537_2</filename><size><width>500</width>"
        "<height>333</height></size><object><name>n01443537</name><bndbox><xmin>10</xmin>"
        "<ymin>20</ymin><xmax>110</xmax><ymax>70</ymax></bndbox></object></annotation>"
    )
    (folder / "n01443537_3.xml").write_text("<annotation>")
    assert script("prepare_imagenet_boxes").main(["--root", str(tmp_path)]) == 0
    assert "1 images, 1 boxes, 1 files left out" in capsys.readouterr().out
    path = tmp_path / "annotations" / "imagenet_boxes_train.json"
    (record,) = load_coco_style_json(str(path), "train")
    assert record["file_name"] == "train/n01443537/n01443537_2.JPEG"
    assert record["annotations"][0]["bbox"] == [10, 20, 100, 50]
    assert record["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize("kind", ["glip", "list", "text"])
def test_lvis_minival(tmp_path, capsys, kind):
    (tmp_path / "lvis").mkdir()
    val = {
        "images": [{"id": i, "coco_url": f"http://x/val2017/{i:012d}.jpg"} for i in (3, 4, 5)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1} for i in (3, 4, 5)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    (tmp_path / "lvis" / "lvis_v1_val.json").write_text(json.dumps(val))
    ids = tmp_path / ("ids.txt" if kind == "text" else "ids.json")
    content = {"images": [{"id": 5}, {"id": 3}]} if kind == "glip" else [5, 3]
    ids.write_text("5\n3\n" if kind == "text" else json.dumps(content))
    arguments = ["--root", str(tmp_path), "--ids", str(ids)]
    assert script("prepare_lvis_minival").main(arguments) == 0
    made = json.loads((tmp_path / "lvis" / "lvis_v1_minival.json").read_text())
    assert [i["id"] for i in made["images"]] == [3, 5]
    assert [a["image_id"] for a in made["annotations"]] == [3, 5]
    assert len(made["categories"]) == 2
    assert "minival has 4809 images" in capsys.readouterr().err
    ids.write_text("99" if kind == "text" else "[99]")
    assert script("prepare_lvis_minival").main(arguments) == 2
    assert "1 ids are not in LVIS v1 val, for instance 99" in capsys.readouterr().err


def test_vqa_answers(tmp_path, capsys):
    def annotations(path, answers):
        entries = [
            {"multiple_choice_answer": best, "answers": [{"answer": a} for a in human]}
            for best, human in answers
        ]
        path.write_text(json.dumps({"annotations": entries}))
        return str(path)

    train = [("two", ["two"] * 10), ("2 ", ["2"] * 3 + ["3"] * 7), ("red", ["red"] * 10)]
    val = [("Red.", ["pink"] * 10), ("the", ["the"] * 10), ("a", ["a"] * 10), ("cat", ["cat"])]
    files = [annotations(tmp_path / "t.json", train), annotations(tmp_path / "v.json", val)]
    output = tmp_path / "lists/answers.json"
    main = script("prepare_vqa_answers").main
    assert main([*files, "--output", str(output), "--questions", "2"]) == 0
    # Two questions each; the empty answer, of "the" and "a", stands before the others.
    assert read_answers(output) == ("", "2", "red")
    # "two", 3 of 10 for "2", "red", and both that are empty: 1 + 0.9 + 1 + 1 + 1 of 7.
    line = f"{output}: 3 answers; 5 of 7 questions (71.43%) have one of them"
    assert f"{line}, which bounds the accuracy to 70.00%" in capsys.readouterr().out
    gqa = tmp_path / "gqa.json"
    gqa.write_text(json.dumps({"1": {"answer": "yes"}, "2": {"answer": "no"}}))
    assert main([str(gqa), "--output", str(output), "--questions", "1"]) == 0
    assert read_answers(output) == ("no", "yes")
    assert main([str(gqa), "--output", str(output)]) == 2
    assert "0 answers have 9 questions" in capsys.readouterr().err
    gqa.write_text("[1]")
    assert main([str(gqa), "--output", str(output)]) == 2
    assert "gqa.json is not in the expected form" in capsys.readouterr().err
    assert read_answers(output) == ("no", "yes")


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"images": [1]}'])
def test_files_of_another_form_are_no_traceback(tmp_path, capsys, text):
    (tmp_path / "lvis").mkdir()
    (tmp_path / "lvis/lvis_v1_val.json").write_text(text)
    (tmp_path / "ids.txt").write_text("1 2")
    arguments = ["--root", str(tmp_path), "--ids", str(tmp_path / "ids.txt")]
    assert script("prepare_lvis_minival").main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_measuring_how_long_reading_takes(capsys):
    arguments = ["--rows", "6", "--width", "64", "--height", "48"]
    table = script("measure_reading").measure(arguments)
    assert table == capsys.readouterr().out.rstrip("\n")
    assert table.startswith("6 records, JPEG 64 x 48, ")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[3:]]
    assert [row[0] for row in rows] == ["GLIP TSV", "tar shard", "files, json"]
    assert all(float(value) >= 0 for row in rows for value in row[1:])


def test_measuring_what_a_json_costs(tmp_path):
    measure = script("measure_reading")
    size = measure.write_coco(tmp_path, 20)
    assert size == (tmp_path / "coco.json").stat().st_size
    measure.read_coco(tmp_path)
    seconds, most, share = json.loads((tmp_path / "found_0.json").read_text())
    assert seconds > 0 and most >= 0 and share
