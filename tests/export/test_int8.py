"""An OpenVINO export in 8-bit integers: near to the model, and what it is calibrated with."""

import sys
from collections import Counter

import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from omegaconf import OmegaConf
from PIL import Image

from glip_commands.main import main
from glipv2_d2.cli import export as command
from glipv2_d2.config import get_config
from glipv2_d2.errors import ExportError, UserError
from glipv2_d2.export import ExportedGLIP, export_glip, graphs, int8
from glipv2_d2.export.manifest import Manifest
from tests.support.exported_model import NAMES, image
from tests.support.tiny_data import NAMES as CLASSES
from tests.support.tiny_data import write_tiny_data

pytest.importorskip("openvino")


def pictures(count):
    return [
        {"image": torch.from_numpy(image(64, 80, seed=i).transpose(2, 0, 1).copy())}
        for i in range(count)
    ]


@torch.no_grad()
def test_products_are_of_8_bits_and_near_to_the_model(source_model, traced, tmp_path):
    pytest.importorskip("nncf")
    from openvino import Core

    prompts = source_model.tokenizer.split(NAMES, size=2)
    folder = export_glip(
        source_model, tmp_path / "int8", format="openvino", prompts=prompts, calibration=pictures(4)
    )
    kinds = Counter(op.get_type_name() for op in Core().read_model(folder / "image.xml").get_ops())
    assert kinds["FakeQuantize"] > kinds["Convolution"] > 0
    assert not list(folder.glob("int8*"))
    assert Manifest.read(folder).notes["int8"] == "calibrated on 4 inputs"
    exported = ExportedGLIP(folder)
    for arrays in int8._calls(exported, pictures(6)[4:]):  # others than those of the calibration
        tensors = [torch.from_numpy(array) for array in arrays]
        found, expected = (
            path(*tensors)[0].flatten(0, 1)
            for path in (exported.neck.graph, graphs.ImagePath(source_model))
        )
        # Steps of 1/255 of each range, after a dozen layers.
        off = (found - expected).norm() / (expected - expected.mean(dim=0)).norm()
        assert 1e-4 < off < 0.2


def test_each_input_gives_one_call_and_of_long_vocabularies_another_part():
    class Model:
        def __init__(self):
            self.neck = OmegaConf.create(flags={"allow_objects": True})
            self.neck.graph = lambda *tensors: tensors

        def __call__(self, asked):
            for part in asked[0]["parts"]:
                self.neck.graph(torch.tensor(part))

    parts = [10, 11], [20, 21, 22], [30], [40, 41], []  # the last: an empty caption
    calls = int8._calls(Model(), [{"parts": part} for part in parts])
    assert [int(tensor) for (tensor,) in calls] == [10, 21, 30, 41]


def test_calibrated_on_all_test_sets_as_they_are_asked(source_model, tmp_path, monkeypatch):
    config = get_config("demo/scenes.py")
    sets = config.dataloader
    for name, images in (("int8_val", 5), ("int8_more", 7)):
        (tmp_path / name).mkdir()
        write_tiny_data(tmp_path / name, images=images)
        register_coco_instances(name, {}, str(tmp_path / name / "tiny.json"), str(tmp_path / name))
    sets.test.dataset = sets.evaluator.dataset_name = "int8_val"
    further = sets.further_tests.scenes_novel
    further.test.dataset = further.evaluator.dataset_name = "int8_more"
    monkeypatch.setattr(command, "INPUTS", 6)
    found = command._test_inputs(config, source_model)
    assert [x["image_id"] for x in found] == [1, 2, 4, 1, 3, 5]  # spread over each
    assert {name for x in found for p in x["prompt"] for name in p.names} == {*CLASSES}
    fixed = command._calibration(
        "test", config, source_model, {}, source_model.tokenizer.split(NAMES)
    )
    assert len(fixed) == 6 and not any("prompt" in x for x in fixed)
    del config["dataloader"]
    with pytest.raises(ExportError, match="test sets of the config, which has none"):
        command._test_inputs(config, source_model)


def test_calibrated_on_photographs(source_model, tmp_path):
    for number in range(70):
        Image.new("RGB", (80, 64), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    found = command._photos(str(tmp_path), source_model, {"min_size": 32, "score_threshold": 0.3})
    assert len(found) == 64 and found[0]["image"].shape == (3, 32, 40)
    assert found[-1]["file_name"].endswith("68.png")  # spread over all
    asked = [x["prompt"].names for x in found]
    assert "airplane" in asked[0] and len({*asked}) > 5  # some of the names, then others
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        command._photos(str(tmp_path / "empty"), source_model, {})


@pytest.mark.parametrize("format", ["torch", "onnx", "weights"])
def test_only_openvino_has_it(format, source_model, tmp_path, capsys):
    if format == "weights":
        model = ["--weights", "glip_scenes", "--format", format, "--prompt", "cat"]
        assert main(["export", *model, "--output", str(tmp_path / "x"), "--int8", "test"]) == 2
        assert "int8 is of OpenVINO's exports (--format openvino)" in capsys.readouterr().err
    else:
        with pytest.raises(ExportError, match=f"int8 is of OpenVINO's exports.* is '{format}'"):
            export_glip(source_model, tmp_path / "x", format=format, calibration=pictures(1))
    assert not list(tmp_path.iterdir())


def test_its_package_is_missing(source_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExportError, match=r"needs the package 'nncf'.*glipv2_d2\[int8\]"):
        export_glip(source_model, tmp_path / "x", format="openvino", calibration=pictures(1))


def test_no_check_of_digits_that_it_does_not_have(tmp_path, capsys):
    asked = ["--format", "openvino", "--int8", "test", "--check", "--output", str(tmp_path / "x")]
    assert main(["export", "--model", "glip_scenes", *asked]) == 2
    assert "evaluate what is written in place of the weights" in capsys.readouterr().err
