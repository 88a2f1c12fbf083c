"""Test images that cannot be evaluated end a run before its training, in one sentence each."""

import json
import logging

import pytest
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.datasets import register_coco_instances
from omegaconf import OmegaConf
from PIL import Image

from glipv2_d2.data import build_grounding_test_loader
from glipv2_d2.engine import image_headers
from glipv2_d2.engine.evaluate import require_test_data
from glipv2_d2.engine.image_headers import check_headers
from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import build_evaluator
from tests.support.tiny_data import write_tiny_data


def break_images(folder):
    """Missing, no image, turned by EXIF, turned without EXIF, resized: five of ten."""
    (folder / "000.png").unlink()
    (folder / "001.png").write_bytes(b"no image")
    content = json.loads((folder / "tiny.json").read_text())
    for entry in content["images"][2:5]:
        entry.update(width=96, height=48)
    (folder / "tiny.json").write_text(json.dumps(content))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 48)).save(folder / "002.png", exif=exif)
    Image.new("RGB", (48, 96)).save(folder / "003.png")
    Image.new("RGB", (192, 96)).save(folder / "004.png")


@pytest.fixture
def broken(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_tiny_data(folder)
    break_images(folder)
    register_coco_instances("tiny_broken", {}, f"{folder}/tiny.json", str(folder))
    return folder


def ours():
    return L(build_grounding_test_loader)(dataset="tiny_broken", mapper=None)


def stock():
    return L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="tiny_broken", filter_empty=False),
        mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR"),
    )


def dataloader(test):
    content = {"test": test, "evaluator": L(build_evaluator)(dataset_name="tiny_broken")}
    return OmegaConf.create(content, flags={"allow_objects": True})


@pytest.mark.parametrize("loader", [ours, stock])
def test_all_that_is_wrong_is_one_error(loader, broken):
    with pytest.raises(DataError) as raised:
        require_test_data(dataloader(loader()))
    first, *lines, remedy = str(raised.value).splitlines()
    assert first == "5 of 10 test images cannot be evaluated:"
    missing, file, unreadable, damaged, wrong, turned, lost, resized = lines
    assert missing == "  tiny_broken: 1 x missing image file" and "000.png" in file
    assert unreadable == "  tiny_broken: 1 x unreadable image" and "001.png" in damaged
    assert wrong == "  tiny_broken: 3 x wrong image size"
    assert "002.png' is 48x96 (width x height), but its annotations are for 96x48" in turned
    assert "without the rotation of its EXIF orientation. Remove that tag" in turned
    assert "003.png" in lost and "an EXIF rotation was lost" in lost
    assert "004.png' is 192x96" in resized and resized.endswith("was resized, or is another file")
    assert remedy.endswith("a test over fewer images is another test")


@pytest.mark.parametrize("loader", [ours, stock])
def test_sound_images_are_all_looked_at(loader, broken, caplog):
    caplog.set_level("INFO")
    write_tiny_data(broken)
    require_test_data(dataloader(loader()))
    assert "tiny_broken: the headers of all 10 test images were read" in caplog.text


def test_an_image_is_looked_at_once_and_not_when_time_is_up(broken, monkeypatch, caplog):
    record = {"file_name": str(broken / "005.png"), "height": 96, "width": 96}
    captions = [{**record, "caption": text} for text in "abc"]
    assert check_headers(captions, 60) == (1, 1, {})
    assert check_headers([record, {**record, "height": 95}], 60)[:2] == (2, 2)
    assert check_headers(captions, -1) == (1, 0, {})
    monkeypatch.setattr(image_headers, "MOST_SECONDS", -1)
    require_test_data(dataloader(ours()))
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line.startswith("tiny_broken: the headers of 0 of 10 test images were read in")


@pytest.mark.parametrize("options", [["train.eval_period=2"], ["--eval-only"]])
def test_before_the_training_and_before_an_evaluation(options, broken, run_train_net, tmp_path):
    if "--eval-only" in options:
        options = [*options, "train.init_checkpoint=never_read.pth"]
    options += ["dataloader.test.dataset=tiny_broken"]
    with pytest.raises(DataError, match="5 of 10 test images cannot be evaluated"):
        run_train_net(*options)
    assert not list((tmp_path / "run").glob("*.pth"))


def test_classes_of_a_test_set_that_cannot_be_asked_for(broken, run_train_net, tmp_path):
    write_tiny_data(broken)
    content = json.loads((broken / "tiny.json").read_text())
    content["categories"][2]["name"] = "star [green]"
    (broken / "tiny.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"'star \[green\]'.*one of data set 'tiny_broken'"):
        run_train_net("train.eval_period=2", "dataloader.test.dataset=tiny_broken")
    assert not list((tmp_path / "run").glob("*.pth"))


def test_training_without_evaluation_does_not_look(broken, run_train_net):
    run_train_net("train.max_iter=1", "dataloader.test.dataset=tiny_broken")
