"""A format of somebody else's, as the docstring shows it, comes in through every door."""

import re
import textwrap

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from glipv2_d2.checkpoint import GLIPCheckpointer, WeightFormat, find_format, weight_names
from glipv2_d2.checkpoint.building import config_for_weights
from glipv2_d2.checkpoint.formats import WEIGHT_FORMATS
from glipv2_d2.modeling.backbone import SwinBackbone
from tests.support.tiny import tiny_config, tiny_model
from tools.parity.generated_weights import manifest

PART = "backbone.bottom_up."


@pytest.fixture
def ours(monkeypatch):
    """The class that the docstring of WeightFormat defines, registered for one test."""
    monkeypatch.setattr(WEIGHT_FORMATS, "_obj_map", dict(WEIGHT_FORMATS._obj_map))
    (code,) = re.findall(
        r"\n( {8}from glipv2_d2.*?)\n\n    Attributes:", WeightFormat.__doc__, re.S
    )
    names: dict = {}
    exec(compile(textwrap.dedent(code), "WeightFormat.__doc__", "exec"), names)
    return names["Ours"]


@pytest.fixture
def foreign_weights(fused, ours):
    """A backbone in that format, of another model than those that the tests build."""
    state = {
        name.replace(PART, "trunk."): value + 1
        for name, value in fused.state_dict().items()
        if name.startswith(PART)
    }
    return {**state, "trunk.stem.weight": torch.ones(1), "teacher.weight": torch.ones(1)}


@pytest.fixture
def without_stem(foreign_weights, ours, monkeypatch):
    """The tiny Swin has no stem: it is left out, too."""
    left_out = (*ours.left_out, (r"trunk\.stem\.weight", "not in a Swin"))
    monkeypatch.setattr(ours, "left_out", left_out)
    return foreign_weights


@pytest.mark.parametrize("door", ["ours", "detectron2", "torch"])
def test_it_loads_into_a_model(door, without_stem, fused, tmp_path):
    path = str(tmp_path / "w.pth")
    torch.save({"model": without_stem}, path)
    model = tiny_model(seed=2)
    if door == "ours":
        GLIPCheckpointer(model).load(path)
    elif door == "detectron2":
        DetectionCheckpointer(model).load(path)
    else:
        model.load_state_dict(without_stem, strict=False)
    for name, value in model.backbone.bottom_up.state_dict().items():
        assert torch.equal(value, fused.backbone.bottom_up.state_dict()[name] + 1), name


def test_it_is_found_and_brings_its_parts(without_stem, ours, monkeypatch, tmp_path):
    assert type(find_format(f"module.{name}" for name in without_stem)) is ours
    path = tmp_path / "w.pth"
    torch.save({"model": without_stem}, path)
    assert set(weight_names(path)) == set(without_stem)
    config = tiny_config()
    config.backbone.bottom_up.pretrained = "no_such_file.pth"
    assert config_for_weights(config, path) is config
    monkeypatch.setattr(ours, "parts", {"backbone.bottom_up": ("trunk.",)})
    assert config_for_weights(config, path).backbone.bottom_up.pretrained is None


def test_no_two_formats_recognize_the_same_weights():
    swin = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 1), out_features=("res2",))
    examples = {
        "OfficialGlip": [entry.name for entry in manifest("glip_t")],
        "Unicl": ["visual.layers.0.blocks.0.attn.qkv.weight", "text.resblocks.0.ln_1.weight"],
        "ImageNetSwin": [n.replace("stages.", "layers.") for n in swin.state_dict()],
        "ClipImageTower": ["visual.conv1.weight", "transformer.resblocks.0.ln_1.weight"],
        "ClipTextTower": ["text_model.embeddings.token_embedding.weight"],
    }
    assert set(examples) == {name for name, _ in WEIGHT_FORMATS}
    for expected, names in examples.items():
        found = [name for name, cls in WEIGHT_FORMATS if cls().recognizes(names)]
        assert found == [expected]
