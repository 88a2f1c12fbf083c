import json

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image

from glipv2_d2.cli.inspection import (
    describe_prompt,
    draw_record,
    evaluation_prompts,
    scan_dataset,
    training_prompt,
)
from glipv2_d2.cli.inspection.drawing import COLORS
from glipv2_d2.data import load_records
from glipv2_d2.errors import DataError
from glipv2_d2.language import Prompt


def test_counts(datasets, tokenizer, coco_json):
    scan, records = scan_dataset(datasets[0], tokenizer=tokenizer)
    assert (scan.total, scan.records, len(scan.images), scan.boxes) == (12, 12, 12, 11)
    assert dict(scan.classes) == {"cat": 4, "caterpillar": 4, "cat_food": 3}
    assert scan.too_long is None and len(records) == 12
    text = "\n".join(scan.lines())
    assert "12 usable records of 12" in text and "problems: none" in text
    assert "per record 0 to 1, median 1, 1 records without" in text
    scan, _ = scan_dataset(datasets[1], tokenizer=tokenizer)
    assert (scan.captions, scan.phrases, scan.boxes, scan.too_long) == (12, 24, 24, 0)
    assert scan.longest == tokenizer.num_tokens("the star 11 left of the blue ring")


def test_words_that_the_language_model_does_not_know_are_named(datasets, tokenizer, mdetr_json):
    text = mdetr_json.read_text()
    assert "blue ring" in text
    mdetr_json.write_text(text.replace("blue ring", "blue \N{RING}ing"))  # of the same length
    scan, _ = scan_dataset(datasets[1], tokenizer=tokenizer)
    assert scan.unknown == {"\N{RING}ing": 12}
    assert "[UNK]): 1; most: '\N{RING}ing' 12" in "\n".join(scan.lines())
    assert scan_dataset(datasets[0], tokenizer=tokenizer)[0].unknown == {}


def test_problems_are_counted(datasets, tokenizer, mdetr_json, images):
    text = mdetr_json.read_text().replace("[40, 10, 20, 20]", "[40, 10, 0, 20]", 2)
    mdetr_json.write_text(text)
    (images / "3.png").unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(images / "4.png")
    (images / "5.png").write_bytes(b"")
    scan, records = scan_dataset(datasets[1], check_images=True)
    assert (scan.total, scan.records) == (12, 9)
    kinds = {kind: count for kind, (count, _) in scan.problems.kinds.items()}
    assert kinds == {
        "box without area": 2,
        "missing image file": 1,
        "wrong image size": 1,
        "unreadable image": 1,
    }
    lines = "\n".join(scan.lines())
    assert "problem: 2 x box without area; the first: " in lines
    assert "4.png' is 9x9 (width x height), but its annotations are for 80x60" in lines
    for image in images.iterdir():
        image.unlink()
    with pytest.raises(DataError, match="does not exist"):
        scan_dataset(datasets[1])


def test_a_set_without_one_box_is_doubtful(datasets, coco_json):
    content = json.loads(coco_json.read_text())
    coco_json.write_text(json.dumps({**content, "annotations": []}))
    scan, _ = scan_dataset(datasets[0])
    assert "warning: none of 12 records has a box" in "\n".join(scan.lines())


def test_a_limit_spreads_evenly(datasets):
    scan, records = scan_dataset(datasets[0], max_records=3)
    assert (scan.total, scan.records) == (12, 3)
    assert [r["image_id"] for r in records] == [0, 4, 8]


def test_prompts_in_words(datasets, tokenizer):
    record = load_records(datasets[1])[3]
    prompt, boxes = training_prompt(record, tokenizer)
    assert describe_prompt(prompt, tokenizer, boxes) == [
        "grounding prompt, 2 phrases, 10 of 256 tokens: 'the star 3 left of the blue ring'",
        "  0: 'star': 1 boxes, tokens 2: star",
        "  1: 'blue ring': 1 boxes, tokens 7-8: blue ring",
    ]
    record = load_records(datasets[0])[1]
    prompts = evaluation_prompts(record, tokenizer, chunk_size=2)
    assert [p.names for p in prompts] == [("cat", "caterpillar"), ("cat food",)]
    prompt = Prompt.from_caption("a cat or two cats", [[[2, 5], [13, 17]]])
    assert describe_prompt(prompt, tokenizer)[1] == "  0: 'cat cats': tokens 2, 5: cat cats"
    many = Prompt.from_classes(["cat", "dog", "cow", "pig"])
    lines = describe_prompt(many, tokenizer, boxes=[0, 0, 0, 2], most=2)
    assert len(lines) == 5 and lines[3].startswith("  3: 'pig': 2 boxes")
    assert lines[4] == "  ... and 1 more"


def gray(tmp_path, **fields):
    Image.new("RGB", (200, 100), (128, 128, 128)).save(tmp_path / "a.png")
    base = {"file_name": str(tmp_path / "a.png"), "height": 100, "width": 200, "image_id": 1}
    return {**base, **fields}


def box(x, y, w, h, **fields):
    return {"bbox": [x, y, w, h], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0, **fields}


def colors_below(picture, top):
    pixels = np.asarray(picture)[top:].reshape(-1, 3)
    return {tuple(int(v) for v in pixel) for pixel in np.unique(pixels, axis=0)}


def test_words_have_the_colors_of_their_boxes(tmp_path):
    record = gray(
        tmp_path,
        caption="a red star near a ring " + "and so on " * 30,
        annotations=[
            box(10, 10, 50, 50, spans=[[2, 10]]),
            box(100, 20, 50, 50, spans=[[18, 22]]),
        ],
    )
    picture = draw_record(record, size=400)
    assert picture.width == 400 and picture.height > 200 + 5 * 26  # wrapped
    pixels = np.asarray(picture)
    assert tuple(pixels[100, 20]) == COLORS[0]  # the left edge of the first box, scaled by two
    assert tuple(pixels[100, 200]) == COLORS[1]
    below = colors_below(picture, 200)
    assert {COLORS[0], COLORS[1], (0, 0, 0)} <= below and COLORS[2] not in below


def test_detections_crowds_and_empty_images(tmp_path):
    annotations = [
        box(10, 10, 50, 50, category_id=1),
        box(100, 20, 50, 50, category_id=1, iscrowd=1),
    ]
    picture = draw_record(gray(tmp_path, annotations=annotations), ["cat", "dog"], size=400)
    pixels = np.asarray(picture)
    assert tuple(pixels[100, 20]) == COLORS[0]
    assert tuple(pixels[100, 200]) == (110, 110, 110)
    assert COLORS[0] in colors_below(picture, 200)
    empty = draw_record(gray(tmp_path, annotations=[]), ["cat"], size=400)
    assert COLORS[0] not in colors_below(empty, 0)
    narrow = gray(tmp_path, annotations=[], caption="漢字 and Café")
    Image.new("L", (1, 300)).save(narrow["file_name"])
    assert draw_record(narrow, size=300).size[0] >= 300
