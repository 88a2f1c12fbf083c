"""`glip convert`: official weights under our names, and a run's checkpoint as a release file."""

import re

import pytest
import torch
from detectron2.config import instantiate

from glip_commands.main import main
from glipv2_d2.checkpoint import (
    GLIPCheckpointer,
    load_weights,
    read_checkpoint,
    read_safetensors_metadata,
    save_safetensors,
)
from glipv2_d2.cli import convert
from glipv2_d2.config import get_config
from glipv2_d2.engine.ema import ModelEMA
from glipv2_d2.errors import CheckpointError
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_model

CONFIG = "tests/support/tiny_detect.py"


def run(*arguments):
    return main(["convert", *arguments])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_the_converted_file_loads_and_the_table_accounts_for_all(
    fused, released, tmp_path, capsys, suffix
):
    target = tmp_path / "folder" / f"ours{suffix}"
    assert run(released, target) == 0
    loaded = tiny_model()
    load_weights(loaded, target)
    own = loaded.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in fused.state_dict().items())

    official = len(official_state(fused.state_dict()))
    out = capsys.readouterr().out
    assert f"{official} official tensors, {official - 5} mapped to {len(own)} of ours" in out
    assert "5 not needed" in out and "2  class logits" in out
    assert "No shipped config has a model of this size" in out
    if suffix == ".safetensors":
        assert read_safetensors_metadata(target)["converted_from"] == "official.pth"


def test_a_target_is_not_overwritten_unasked(released, tmp_path, capsys):
    target = tmp_path / "ours.pth"
    target.write_bytes(b"mine")
    assert run(released, target) == 2
    assert "--force" in capsys.readouterr().err and target.read_bytes() == b"mine"
    assert run(released, target, "--force") == 0
    before = released.read_bytes()
    assert run(released, released, "--force") == 2
    assert "target is the source" in capsys.readouterr().err and released.read_bytes() == before


def test_published_sizes_are_compared_with_their_model(fused, monkeypatch, released, tmp_path):
    monkeypatch.setattr(convert, "published_config", lambda state: "any")
    config = convert.load_model_config("pretrain/glip_t.py")
    monkeypatch.setattr(convert, "load_model_config", lambda name: config)
    assert run(released, tmp_path / "ours.pth") == 2  # GLIP-T is another size
    assert not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: {"conv.weight": torch.ones(2)}, "holds no official GLIP"),
        (lambda state: {**state, "module.new.weight": torch.ones(2)}, "'new.weight' .2,. has no"),
    ],
)
def test_what_cannot_be_converted(fused, tmp_path, capsys, change, message):
    path = tmp_path / "official.pth"
    torch.save({"model": change(official_state(fused.state_dict(), module=True))}, path)
    assert run(path, tmp_path / "ours.pth") == 2
    error = capsys.readouterr().err
    assert "official.pth" in error
    assert re.search(message, error), error
    assert not (tmp_path / "ours.pth").exists()


def test_usage(released, tmp_path, capsys):
    assert run(released, tmp_path / "w.onnx") == 2
    assert "safetensors or .pth" in capsys.readouterr().err
    assert run(tmp_path / "none.pth", tmp_path / "w.pth") == 2
    assert "none.pth" in capsys.readouterr().err
    for options in (["--precision", "float32"], ["--hours", "2"], ["--machine", "a phone"]):
        assert run(released, tmp_path / "w.pth", *options) == 2
        assert f"{options[0]} is for a release file" in capsys.readouterr().err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = tiny_model()
    ema = ModelEMA(model)
    ema.shadow["head.bias0"].fill_(0.25)
    path = tmp_path_factory.mktemp("run") / "model_final.pth"
    state = {"model": model.state_dict(), "ema": ema.state_dict(), "iteration": 99}
    torch.save(state, path)
    return path


def release(checkpoint, target, *options):
    arguments = ["convert", checkpoint, target, "--config-file", CONFIG]
    notes = ["--command", "make train-demo", "--machine", "2 CPU cores", "--seed", "42"]
    return main([*arguments, *notes, *options])


def test_safetensors_with_notes_and_averaged_weights(checkpoint, tmp_path, capsys):
    target = tmp_path / "w.safetensors"
    assert release(checkpoint, target, "--hours", "1.5") == 0
    notes = read_safetensors_metadata(target)
    expected = {"command": "make train-demo", "machine": "2 CPU cores", "seed": "42"}
    assert expected.items() <= notes.items()
    assert (notes["iterations"], notes["hours"], notes["averaged"]) == ("100", "1.5", "True")
    model = tiny_model(seed=1)
    load_weights(model, target)
    assert (model.head.bias0 == 0.25).all()
    assert "MB" in capsys.readouterr().out


def test_notes_of_a_release_file_are_mended_by_those_that_are_given(checkpoint, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert release(checkpoint, first, "--hours", "1.5") == 0
    more = ["--config-file", CONFIG, "--machine", "a phone"]
    assert main(["convert", str(first), str(second), *more]) == 0
    notes = read_safetensors_metadata(first)
    assert read_safetensors_metadata(second) == {**notes, "machine": "a phone"}
    bare, third = tmp_path / "bare.safetensors", tmp_path / "third.safetensors"
    save_safetensors(read_checkpoint(first)["model"], bare, {})
    assert main(["convert", str(bare), str(third), *more]) == 0
    assert read_safetensors_metadata(third)["config"] == notes["config"]


def test_pth_for_other_programs(checkpoint, tmp_path):
    target = tmp_path / "w.pth"
    assert release(checkpoint, target, "--precision", "float32") == 0
    state = read_checkpoint(target)["model"]
    assert all(v.dtype == torch.float32 for v in state.values() if v.is_floating_point())


def test_an_official_checkpoint(tmp_path):
    model = tiny_model(seed=1)
    official, target = tmp_path / "official.pth", tmp_path / "w.safetensors"
    torch.save({"model": official_state(model.state_dict(), module=True)}, official)
    # The folder of the tiny language model holds no weights: asking for them would fail.
    assert release(official, target, "model.language_backbone.pretrained=True") == 0
    state = read_checkpoint(target)["model"]
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state["head.box_scales"], model.head.box_scales.half())


def test_a_release_file_that_cannot_be_made(checkpoint, tmp_path, capsys):
    assert release(checkpoint, tmp_path / "w.onnx") == 2
    assert "safetensors or .pth" in capsys.readouterr().err
    assert release(tmp_path / "none.pth", tmp_path / "w.pth") == 2
    assert "none.pth" in capsys.readouterr().err
    frozen = ("model.language_backbone.frozen=True", "model.nope=1")
    assert release(checkpoint, tmp_path / "w.pth", *frozen) == 2
    assert "error: model: " in capsys.readouterr().err


UNDERSTANDING = "tests/support/tiny_understanding.py"


def test_a_head_is_left_out_to_be_trained_anew_for_other_answers(
    understanding_weights, tmp_path, capsys
):
    target = tmp_path / "rest.safetensors"
    options = ("--config-file", UNDERSTANDING, "--precision", "float32")
    assert run(understanding_weights, target, *options, "--without", "vqa_head") == 0
    whole, rest = (read_checkpoint(path)["model"] for path in (understanding_weights, target))
    assert {name.split(".")[0] for name in whole.keys() - rest.keys()} == {"vqa_head"}

    node = get_config(UNDERSTANDING).model
    node.vqa_head.answers = ["another", "list"]
    model = instantiate(node)
    GLIPCheckpointer(model).load(str(target), checkpointables=[])
    assert all(torch.equal(value, rest[n]) for n, value in model.state_dict().items() if n in rest)
    with pytest.raises(CheckpointError, match="--without vqa_head"):
        GLIPCheckpointer(model).load(str(understanding_weights), checkpointables=[])

    again = tmp_path / "again.safetensors"
    assert run(target, again, *options, "--without", "vqa_head") == 2  # not all weights
    assert run(understanding_weights, again, *options, "--without", "vqa") == 2
    assert "--without vqa: the weights have no such part; they have backbone" in (
        capsys.readouterr().err
    )
    assert run(understanding_weights, again, "--without", "vqa_head") == 2
    assert "give --config-file" in capsys.readouterr().err
