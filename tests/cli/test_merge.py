"""`glip merge`: files between two models, and the curve of what they can do."""

import csv
import json

import pytest
import torch
from detectron2.config import instantiate

from glip_commands.main import main
from glipv2_d2.checkpoint import (
    load_weights,
    read_checkpoint,
    read_safetensors_metadata,
    release_state,
    save_safetensors,
)
from glipv2_d2.config import get_config
from tests.support.tiny import tiny_model
from tests.support.tiny_data import CONFIG, write_tiny_data


def run(*arguments):
    return main(["merge", *arguments])


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """A release file of a base, and a checkpoint of another model of its kind."""
    folder = tmp_path_factory.mktemp("ends")
    base = save_safetensors(release_state(tiny_model(seed=1)), folder / "base.safetensors", {})
    tuned = tiny_model(seed=2, **{"head.prior_prob": 0.5})
    torch.save({"model": tuned.state_dict()}, folder / "tuned.pth")
    return base, folder / "tuned.pth"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_merged_file_loads(ends, tmp_path, suffix):
    target = tmp_path / "folder" / f"merged{suffix}"
    assert run(*ends, target, "--alpha", "0.25") == 0
    base, tuned = (read_checkpoint(path)["model"] for path in ends)
    model = tiny_model()
    load_weights(model, target)
    for name, value in model.state_dict().items():
        between = 0.75 * base[name].float() + 0.25 * tuned[name].float()
        torch.testing.assert_close(value, between, atol=1e-6, rtol=1e-5)
    if suffix == ".safetensors":
        assert read_safetensors_metadata(target)["alpha"] == "0.25"


def test_a_part_alone_is_merged(ends, tmp_path, capsys):
    target = tmp_path / "merged.safetensors"
    assert run(*ends, target, "--alpha", "0", "--only", "head, neck.blocks.1") == 0
    base, tuned = (read_checkpoint(path)["model"] for path in ends)
    for name, value in read_checkpoint(target)["model"].items():
        end = base if name.startswith(("head.", "neck.blocks.1.")) else tuned
        assert torch.equal(value, end[name].float()), name
    assert read_safetensors_metadata(target)["only"] == "head,neck.blocks.1"
    assert run(*ends, tmp_path / "x.pth", "--alpha", "0", "--only", "nose") == 2
    assert "no part 'nose' has weights" in capsys.readouterr().err


def test_with_the_config_any_kind_of_file_is_merged(ends, released, fused, tmp_path, capsys):
    target = tmp_path / "merged.pth"
    assert run(released, ends[1], target, "--alpha", "0") == 2
    assert "is a file of official GLIP: give --config-file" in capsys.readouterr().err
    config = ("--config-file", "tests/support/tiny_detect.py")
    assert run(released, ends[1], target, "--alpha", "0", *config) == 0
    merged = read_checkpoint(target)["model"]
    assert all(torch.equal(merged[name], value) for name, value in fused.state_dict().items())


def test_a_side_without_heads_and_positions(tmp_path):
    """What was added for the tuning comes from there, where the files leave the language out."""
    torch.manual_seed(0)
    config = "tests/support/tiny_words.py"
    tuned = instantiate(get_config(config).model)
    added = ("vqa_head", "caption_head", "mask_head", "contrast")
    whole = {name: value.clone() for name, value in tuned.state_dict().items()}
    base = {
        name: torch.zeros_like(value) for name, value in whole.items()
        if not name.startswith(added) and "positions" not in name
    }  # fmt: skip
    files = [tmp_path / "base.pth", tmp_path / "tuned.pth"]
    for file, state in zip(files, (base, whole)):
        torch.save({"model": state}, file)
    options = ("--alpha", "0.5", "--config-file", config)
    assert run(*files, tmp_path / "merged.pth", *options) == 0
    merged = read_checkpoint(tmp_path / "merged.pth")["model"]
    assert merged.keys() == whole.keys()
    for name, value in whole.items():
        if value.is_floating_point():
            share = 1.0 if name.startswith(added) else 0.5
            torch.testing.assert_close(merged[name], share * value)


def test_the_curve(ends, tmp_path, monkeypatch, capsys):
    write_tiny_data(tmp_path, images=3)
    monkeypatch.setenv("TINY_DATA", str(tmp_path))
    folder = tmp_path / "curve"
    arguments = ["--curve", "--config-file", str(CONFIG), "--num-gpus", "0", "--alpha", "1,0,0.5"]
    assert run(*ends, folder, *arguments, "dataloader.test.num_workers=0", "--old", "tiny") == 2
    assert "'tiny' is a test set already" in capsys.readouterr().err
    from detectron2.data.datasets import register_coco_instances

    register_coco_instances("before", {}, str(tmp_path / "tiny.json"), str(tmp_path))
    assert run(*ends, folder, *arguments, "--old", "before", "dataloader.test.num_workers=0") == 0
    lines = (folder / "curve.md").read_text().splitlines()
    assert lines[0] == "| alpha | tiny | before |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["0", "0.5", "1"]
    rows = list(csv.DictReader((folder / "curve.csv").open()))
    assert {row["test set"] for row in rows} == {"tiny", "before"}
    found = json.loads((folder / "alpha_1" / "last_results.json").read_text())
    value = next(r["value"] for r in rows if (r["alpha"], r["metric"]) == ("1", "bbox/AP"))
    assert float(value) == found["tiny"]["bbox"]["AP"] == found["before"]["bbox"]["AP"]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert run(*ends, folder, *arguments[:-1], "0.5", "--metric", "AP50") == 0  # of the boxes
    assert "alpha 0.5: AP50 tiny " in capsys.readouterr().out
    assert run(*ends, folder, *arguments, "--metric", "bbox/AR") == 2
    assert "no test set gives --metric bbox/AR; they give: bbox/AP," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merged.pth"], "give one --alpha"),
        (["merged.pth", "--alpha", "0.1,0.2"], "give one --alpha"),
        (["merged.pth", "--alpha", "2"], "--alpha is from 0, the base, to 1, the tuned model"),
        (["merged.pth", "--alpha", "half"], "'half' is no float"),
        (["merged.onnx", "--alpha", "1"], "must end in .safetensors or .pth"),
        (["merged.pth", "--alpha", "1", "--old", "coco"], "--old needs --curve"),
        (["merged.pth", "--alpha", "1", "--metric", "AP50"], "--metric needs --curve"),
        (["merged.pth", "--alpha", "1", "fish=1"], "'fish=1' sets a value of a config"),
        (["folder", "--curve"], "--curve needs --config-file"),
        (["merged.pth", "--curve", "--config-file", str(CONFIG)], "OUTPUT is a folder"),
    ],
)
def test_usage(ends, arguments, message, capsys, tmp_path):
    assert run(*ends, tmp_path / arguments[0], *arguments[1:]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
