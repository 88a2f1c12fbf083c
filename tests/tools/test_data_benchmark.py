"""The figures of "Data loading and start-up" in docs/benchmarks.md come from a tool that runs."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.evaluation.coco_truth import load_coco_truth
from tools import data_benchmark
from tools.data_benchmark import ANNOTATIONS, FILES, OBJECTS, main, write_data

CONFIG = "demo/scenes.py"


class InThisProcess:
    """In place of a `Worker`, which takes seconds to start."""

    def __enter__(self):
        return lambda function, *args: function(*args)

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def kept_catalogs(monkeypatch):
    for catalog in (DatasetCatalog, MetadataCatalog):
        monkeypatch.setattr(catalog, "data", dict(catalog.data))


def test_the_tables(monkeypatch, capsys):
    monkeypatch.setattr(data_benchmark, "Worker", InThisProcess)
    options = ["--images", "40", "--size", "64", "96", "--workers", "1", "--batches", "2"]
    assert main(["--config-file", CONFIG, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"40 images, {40 * OBJECTS} objects")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert [len(row) for row in rows] == [3, 3, 3, 5, 4, 2, 2]
    whole, reading, augmenting, rest = map(float, rows[4])
    assert whole > 0 and abs(whole - reading - augmenting - rest) <= 0.2  # rounded
    assert float(rows[6][1]) > 0


def test_the_made_data_are_sound(tmp_path, caplog):
    write_data(tmp_path, 10, (64, 96), CONFIG)
    content = json.loads((tmp_path / ANNOTATIONS).read_text())
    names = {image["file_name"] for image in content["images"]}
    assert names == {path.name for path in tmp_path.glob("*.jpg")} and len(names) == FILES
    truth = load_coco_truth(str(tmp_path / ANNOTATIONS))
    assert len(truth.anns) == 10 * OBJECTS
    assert all(len(entry["segmentation"]) == 1 for entry in truth.anns.values())
    assert not caplog.records
