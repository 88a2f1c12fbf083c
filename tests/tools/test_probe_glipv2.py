"""The probe's two tasks on a few rendered scenes, with the tiny model."""

import json

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.checkpoint import release_state, save_safetensors
from glipv2_d2.config import get_config
from tools import probe_glipv2

CONFIG = "tests/support/tiny_probe.py"


@pytest.fixture(scope="module")
def glipv2_weights(tmp_path_factory):
    torch.manual_seed(0)
    model = instantiate(get_config(CONFIG).model)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    return save_safetensors(release_state(model, torch.float32), path, {})


def run(weights, *options):
    arguments = ["--config-file", CONFIG, "--weights", str(weights), "--device", "cpu"]
    return probe_glipv2.main([*arguments, *options])


def test_retrieval(scenes, glipv2_weights, tmp_path, capsys):
    output = tmp_path / "new" / "retrieval.json"
    assert run(glipv2_weights, "--task", "retrieval", "--batch", "2", "--output", str(output)) == 0
    numbers = json.loads(output.read_text())["numbers"]
    records = json.loads((scenes / "scenes/annotations/val.json").read_text())
    assert numbers["boxes"] + numbers["boxes_without_positions"] == len(records["annotations"])
    assert 0 < numbers["chance"] < 1 and {"fused", "before_fusion"} <= numbers.keys()
    printed = capsys.readouterr().out
    assert "scenes_val" in printed and "before_fusion" in printed and "chance" in printed


def test_masked_words(scenes, glipv2_weights, tmp_path, capsys):
    output = tmp_path / "words.json"
    options = ("--batch", "3", "--limit", "3", "--output", str(output))
    assert run(glipv2_weights, "--task", "masked-words", *options) == 0
    content = json.loads(output.read_text())
    assert content["settings"]["limit"] == "3"
    right, other = content["numbers"]["right_image"], content["numbers"]["other_image"]
    words = sum(right[kind]["words"] for kind in ("color", "shape"))
    assert words > 0 and right["color"]["words"] == other["color"]["words"]
    assert 0 <= right["color"]["decided_words"] <= right["color"]["words"]
    assert "3 captions" in capsys.readouterr().out


def test_problems_are_told_in_one_line(scenes, glipv2_weights, tmp_path, capsys):
    assert run(glipv2_weights, "--task", "retrieval", "--dataset", "no_such_set") == 2
    assert "no data set named 'no_such_set'" in capsys.readouterr().err
    assert run(tmp_path / "none.pth", "--task", "retrieval") == 2
    assert "none.pth" in capsys.readouterr().err
    assert run(glipv2_weights, "--task", "retrieval", "--device", "foo") == 2
    assert capsys.readouterr().err.startswith("error: the device 'foo' cannot be used: ")
    with pytest.raises(SystemExit):
        run(glipv2_weights, "--task", "retrieval", "--batch", "0")
