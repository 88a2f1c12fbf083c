"""Files in which one value is anything: it is named or left out, and nothing else happens."""

import copy
import json
import random

import pytest

from glipv2_d2.data import (
    GroundingDatasetMapper,
    load_records,
    register_coco_dataset,
    register_grounding_dataset,
)
from glipv2_d2.data.loading import training_records
from glipv2_d2.data.report import LEFT_OUT, Report
from glipv2_d2.data.samplers import UNUSABLE
from glipv2_d2.errors import DataError
from tests.support.pretraining_files import (
    BOXES,
    CAPTION,
    HEIGHT,
    SPANS,
    WIDTH,
    caption_label,
    encoded_image,
    image_row,
    write_tar,
    write_tsv,
)

ODD = [
    None, "", "x", -1, 0, 1.5, 10**30, True, [], {}, [[]], [None], [1, 2, 3], "\ud800",
    float("nan"), float("inf"),
]  # fmt: skip
REMOVED = object()
CASES = 60
IMAGE = {"height": HEIGHT, "width": WIDTH}
POLYGON = [[5, 5, 25, 5, 25, 35]]


def coco():
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "neg_category_ids": [2], **IMAGE}
                   for i in range(2)],
        "annotations": [{"id": i, "image_id": i, "bbox": [5, 5, 20, 30], "category_id": 1,
                         "iscrowd": 0, "segmentation": POLYGON} for i in range(2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def mdetr():
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "caption": CAPTION,
                    "tokens_positive_eval": [[[2, 13]]], **IMAGE} for i in range(2)],
        "annotations": [{"id": i, "image_id": i, "bbox": [5, 5, 20, 30], "segmentation": POLYGON,
                         "tokens_positive": [[2, 13]]} for i in range(2)],
    }  # fmt: skip


def odvg():
    boxes = [{"bbox": [5, 5, 20, 30], "label": 0, "category": "cat"}]
    regions = [
        {"bbox": [5, 5, 20, 30], "phrase": "caterpillar"},
        {"bbox": [[5, 5, 20, 30]], "phrase": ["green leaf"], "tokens_positive": [[19, 29]]},
    ]
    return [
        {"filename": "0.jpg", "detection": {"instances": boxes}, **IMAGE},
        {"filename": "1.jpg", "grounding": {"caption": CAPTION, "regions": regions}, **IMAGE},
    ]


def captions():
    return [
        caption_label(CAPTION, BOXES, SPANS, [0.9, 0.6]),
        caption_label(CAPTION, [BOXES, [BOXES[1]]], SPANS, [[0.9, 0.4], [0.8]]),
    ]


def objects():
    return [{"objects": [{"class": "cat", "rect": [5, 5, 20, 30]}], "img_h": 60, "img_w": 80}] * 2


def _json(name, folder, content, register):
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    register(name, str(path), str(folder))


def write_coco(name, folder, content):
    _json(name, folder, content, register_coco_dataset)


def write_mdetr(name, folder, content):
    _json(name, folder, content, register_grounding_dataset)


def write_odvg(name, folder, lines, **options):
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "a.lineidx").unlink(missing_ok=True)
    path = str(folder / "a.jsonl")
    register_grounding_dataset(name, path, str(folder), "odvg", reader_options=options)


def write_lazy_odvg(name, folder, lines):
    write_odvg(name, folder, lines, lazy=True, label_map={"0": "cat"})


def write_labels(name, folder, labels, more=""):
    write_tsv(folder / "i.tsv", [image_row(str(i), i) for i in range(len(labels))])
    rows = [[str(i), json.dumps(label)] for i, label in enumerate(labels)]
    write_tsv(folder / "l.tsv", rows)
    (folder / "c.yaml").write_text("img: i.tsv\nlabel: l.tsv\n" + more)
    register_grounding_dataset(name, str(folder / "c.yaml"), "", "glip_tsv")


def write_objects(name, folder, labels):
    (folder / "m.json").write_text('{"cat": 1, "dog": 2}')
    write_labels(name, folder, labels, "labelmap: m.json\n")


def write_shard(name, folder, labels):
    members = [(f"{i}.jpg", encoded_image(i)) for i in range(len(labels))]
    members += [(f"{i}.json", json.dumps(label).encode()) for i, label in enumerate(labels)]
    write_tar(folder / "0.tar", sorted(members))
    (folder / "0.tar.index.npy").unlink(missing_ok=True)
    register_grounding_dataset(name, str(folder / "0.tar"), "", "webdataset")


FORMATS = {
    "coco": (coco, write_coco),
    "mdetr": (mdetr, write_mdetr),
    "odvg": (odvg, write_odvg),
    "odvg_lazy": (odvg, write_lazy_odvg),
    "tsv": (captions, write_labels),
    "tsv_objects": (objects, write_objects),
    "tar": (captions, write_shard),
}


def places(value, path=()):
    """The path to every value in a json structure."""
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, child in value.items() if isinstance(value, dict) else ():
        yield from places(child, (*path, key))


def replaced(content, path, value):
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


def use(name, tokenizer, invalid):
    """All that a training and a test do with the records; DataError where they stop."""
    try:
        records = training_records(name, Report(mode=invalid, running=(LEFT_OUT,)))
        train = GroundingDatasetMapper(
            is_train=True, augmentations=[], tokenizer=tokenizer, use_masks=True
        )
        for index in range(len(records)):
            try:
                train(records[index])
            except UNUSABLE:
                pass
        test = GroundingDatasetMapper(is_train=False, augmentations=[], tokenizer=tokenizer)
        for record in load_records(name):
            test(record)
    except (DataError, *UNUSABLE) as error:
        assert len(str(error)) > 20
        return False
    return True


@pytest.mark.parametrize("kind", FORMATS)
def test_an_odd_value_anywhere(kind, tmp_path, tokenizer, caplog):
    make, write = FORMATS[kind]
    for i in range(2):
        (tmp_path / f"{i}.jpg").write_bytes(encoded_image(i))
    generator = random.Random(0)
    sound = make()
    paths = [path for path in places(sound) if path]
    for number in range(CASES):
        value = REMOVED if number % 8 == 0 else generator.choice(ODD)
        path = generator.choice(paths)
        name = f"odd_{kind}_{number}"
        write(name, tmp_path, replaced(sound, path, value))
        try:
            use(name, tokenizer, "raise" if number % 2 else "drop")
        except Exception as error:
            error.add_note(f"{path} is {'removed' if value is REMOVED else repr(value)}")
            raise
    write(name + "_sound", tmp_path, sound)
    assert use(name + "_sound", tokenizer, "raise")
    caplog.text.encode("utf-8")  # what is said of half characters can be printed
