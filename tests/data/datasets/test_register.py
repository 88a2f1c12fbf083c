"""Data sets of one's own: registered, registered again, in formats of one's own."""

import re
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from glipv2_d2.config import get_config
from glipv2_d2.data import (
    GROUNDING_FORMATS,
    load_records,
    register_coco_dataset,
    register_grounding_dataset,
)
from glipv2_d2.errors import ConfigError, DataError
from tests.support.benchmark_tree import catalogs_at
from tests.support.detection_exports import coco

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "finetune.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def own_catalogs(tmp_path):
    with catalogs_at(tmp_path):
        yield


def test_the_same_once_more_changes_nothing():
    for _ in range(2):
        register_coco_dataset("some_boxes", "a.json", "images", note=1)
        register_grounding_dataset("some_captions", "c.json", "images", note=1)
        roots = {"flickr": "f", "coco": "c"}
        options = {"min_score": 0.6}
        register_grounding_dataset("some_tsv", "t.yaml", roots, "glip_tsv", reader_options=options)
    assert MetadataCatalog.get("some_boxes").evaluator_type == "coco"
    assert MetadataCatalog.get("some_captions").note == 1


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"json_file": "b.json"}, "with json_file='a.json', and now with json_file='b.json'"),
        ({"note": 1}, {"note": 2}, "with note=1, and now with note=2"),
        ({}, {"note": 2}, "with note=None, and now with note=2"),
    ],
)
@pytest.mark.parametrize("register", [register_coco_dataset, register_grounding_dataset])
def test_other_arguments_are_named(register, first, second, message):
    given = {"json_file": "a.json", "image_root": "images"}
    register("some", **{**given, **first})
    with pytest.raises(DataError, match=f"'some' is registered already, {message}: choose"):
        register("some", **{**given, **second})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "odvg"}, "format='mdetr'.*format='odvg'"),
        ({"reader_options": {"a": 1}}, r"reader_options=\{\}.*reader_options=\{'a': 1\}"),
    ],
)
def test_another_reader_is_another_data_set(options, message):
    register_grounding_dataset("some", "a.json", "images")
    with pytest.raises(DataError, match=message):
        register_grounding_dataset("some", "a.json", "images", **options)


def test_captions_are_no_boxes():
    register_grounding_dataset("some", "a.json", "images")
    with pytest.raises(DataError, match="evaluator_type='grounding', and now .*='coco'"):
        register_coco_dataset("some", "a.json", "images")


def test_the_documented_config_is_loaded_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        coco(tmp_path / "my").rename(tmp_path / "my" / f"{split}.json")
    block = re.search(r"```python\n(# my_config.py\n.*?)```", PAGE, re.DOTALL).group(1)
    path = tmp_path / "my_config.py"
    path.write_text(block)
    for _ in range(2):
        assert get_config(path).dataloader.train.datasets == ["my_train"]
    assert len(DatasetCatalog.get("my_val")) == 3


def test_a_config_that_registers_by_detectron2_is_told_how(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "from detectron2.data.datasets import register_coco_instances\n"
        'register_coco_instances("stock", {}, "a.json", "images")\n'
        "model = dict(a=1)\n"
    )
    get_config(path)
    with pytest.raises(ConfigError, match="'stock' is already registered.*register_coco_dataset"):
        get_config(path)


def test_register_is_lazy(mdetr_json, images):
    with pytest.raises(ValueError, match="unknown format 'odd'"):
        register_grounding_dataset("tiny_lazy", "missing.json", "", format="odd")
    register_grounding_dataset("tiny_lazy", "missing.json", "", note=1)
    assert MetadataCatalog.get("tiny_lazy").evaluator_type == "grounding"
    assert MetadataCatalog.get("tiny_lazy").note == 1
    with pytest.raises(ValueError, match="registered already"):
        register_grounding_dataset("tiny_lazy", str(mdetr_json), str(images))
    with pytest.raises(DataError, match=r"missing\.json"):
        load_records("tiny_lazy")


def test_a_format_of_ones_own(monkeypatch, caplog):
    monkeypatch.setattr(GROUNDING_FORMATS, "_obj_map", {})

    @GROUNDING_FORMATS.register("lines")
    def load_lines(path, image_root, dataset_name, *, report, shift=0):
        report.record("no caption", f"{path}: line 2", "it is empty")
        box = {"bbox": [shift, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "spans": [[0, 3]]}
        return [{"file_name": f"{image_root}/a.jpg", "height": 60, "width": 80, "image_id": 1,
                 "caption": "cat", "annotations": [box]}]  # fmt: skip

    register_grounding_dataset("own", "a.txt", "images", "lines", reader_options={"shift": 3})
    (record,) = load_records("own")
    assert record["dataset_name"] == "own" and record["annotations"][0]["bbox"] == [3, 0, 9, 9]
    line = "left out 1 record: 1 x no caption (first: a.txt: line 2: it is empty)"
    assert [r.getMessage() for r in caplog.records] == [f"data set 'own': {line}"]
    with pytest.raises(DataError, match="a.txt: line 2: it is empty. Repair the file"):
        load_records("own", invalid="raise")
    # Detectron2's programs get it logged, and numbers for the phrases.
    (record,) = DatasetCatalog.get("own")
    names = MetadataCatalog.get("own").thing_classes
    assert caplog.records[-1].getMessage() == f"a.txt: {line}"
    assert names[record["annotations"][0]["category_id"]] == "cat"
