"""UniCL's weights become the towers of our model: every name, every value, through every door."""

import logging
from dataclasses import replace

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from glipv2_d2.checkpoint import (
    GLIPCheckpointer,
    config_for_weights,
    converted,
    find_format,
    load_weights,
    read_checkpoint,
)
from glipv2_d2.checkpoint.formats import Unicl
from glipv2_d2.checkpoint.formats.clip import resize_positions
from glipv2_d2.errors import CheckpointError
from glipv2_d2.language import Prompt
from tests.support.tiny import tiny_input, tiny_model
from tests.support.tiny_clip import (
    POSITIONS,
    TextTransformer,
    clip_config,
    tiny_clip_glip,
    unicl_state,
)


class Config(dict):
    """Stands for the yacs node that a released_unicl file holds beside the weights."""


def convert(state):
    """For the tiny model with CLIP's kind of text, whose longest prompt has 24 tokens."""
    return converted(state, tiny_clip_glip(), source="")[1]


@pytest.fixture(scope="module")
def text():
    torch.manual_seed(3)
    return TextTransformer().eval()


@pytest.fixture(scope="module")
def unicl_glip():
    return tiny_clip_glip(seed=1)


@pytest.fixture(scope="module")
def unicl(text, unicl_glip):
    return unicl_state(unicl_glip.backbone.bottom_up, text)


@pytest.fixture(scope="module")
def released_unicl(unicl, tmp_path_factory):
    path = tmp_path_factory.mktemp("unicl") / "unicl.pth"
    content = {"model": unicl, "optimizer": {"state": {}}, "epoch": 31, "config": Config(A=1)}
    torch.save(content, path)
    return str(path)


def test_every_name_has_its_place(unicl, unicl_glip):
    before = {name: value.clone() for name, value in unicl.items()}
    converted = convert(unicl)
    assert all(torch.equal(unicl[n], v) for n, v in before.items())  # pure
    own = {
        n: v.shape
        for n, v in unicl_glip.state_dict().items()
        if n.startswith(("backbone.bottom_up.", "language_backbone.")) and "out_norms" not in n
    }
    assert {n: v.shape for n, v in converted.items()} == own
    for name, value in unicl_glip.backbone.bottom_up.state_dict().items():
        if "out_norms" not in name:
            assert torch.equal(converted[f"backbone.bottom_up.{name}"], value)
    assert torch.equal(
        converted["language_backbone.positional_embedding"],
        resize_positions(unicl["text_encoder.positional_embedding"], 24),
    )
    left_out = [n for n in unicl if Unicl().explain_left_out(n)]
    # Per block of the Swin two buffers, then the norm and the three of the common space.
    assert len(left_out) == 2 * 5 + 2 + 3 and len(unicl) - len(left_out) == len(converted)


def test_the_text_transformer_is_unicls(text, unicl):
    model = tiny_clip_glip().language_backbone.eval()
    own = {
        n.removeprefix("language_backbone."): v
        for n, v in convert(unicl).items()
        if n.startswith("language_backbone.")
    }
    # UniCL's own positions, since it has no others to compare with.
    own["positional_embedding"][:POSITIONS] = text.positional_embedding.detach()
    model.load_state_dict(own)
    tokens = model.tokenizer([Prompt.from_classes(["a red kite"]), Prompt.from_classes(["3 dogs"])])
    causal = torch.ones(2, dtype=torch.bool)
    # Two layers of float32; features of about 1.
    torch.testing.assert_close(
        model(replace(tokens, causal=causal)).hidden[tokens.mask],
        text(tokens.input_ids)[tokens.mask],
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("text_tower", ["text_encoder.", "lang_encoder.", "text."])
@pytest.mark.parametrize("image_tower", ["image_encoder.", "visual."])
@pytest.mark.parametrize("module", ["", "module."])
def test_names_of_older_and_later_files(text, unicl_glip, unicl, image_tower, text_tower, module):
    state = unicl_state(unicl_glip.backbone.bottom_up, text, image_tower, text_tower)
    state["vision_projection"] = state.pop("image_projection")
    state = {module + n: v for n, v in state.items()}
    assert isinstance(find_format(state), Unicl)
    converted, expected = convert(state), convert(unicl)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(v, expected[n]) for n, v in converted.items())


def test_other_weights_are_not_taken_for_a_unicls(unicl_glip):
    openai = {"visual.conv1.weight": 0, "transformer.resblocks.0.ln_1.weight": 0}
    open_clip = {"visual.trunk.a": 0, "text.transformer.resblocks.0.ln_1.weight": 0}
    for state in (unicl_glip.state_dict(), openai, open_clip, {}):
        assert not isinstance(find_format(state), Unicl)


@pytest.mark.parametrize(
    "name, message",
    [
        ("image_encoder.layers.0.blocks.0.modulation.f.weight", "is not a Swin.*FocalNet"),
        ("image_encoder.pos_embed", "is not a Swin.*pos_embed' .2, 3."),
        ("text_encoder.resblocks.0.gate.weight", "resblocks.0.gate.weight' has no place"),
        ("decoder.weight", "'decoder.weight' .2, 3. is not one of UniCL's.*remove it"),
    ],
)
def test_unknown_names(unicl, name, message):
    assert Unicl().explain_left_out(name) is None
    with pytest.raises(CheckpointError, match=message):
        convert({**unicl, name: torch.zeros(2, 3)})


@pytest.mark.parametrize("door", ["ours", "detectron2", "torch"])
def test_training_starts_from_it(door, released_unicl, unicl, caplog):
    model = tiny_clip_glip(seed=2)
    start = {n: v.clone() for n, v in model.state_dict().items()}
    with caplog.at_level(logging.INFO, "glipv2_d2"):
        if door == "ours":
            GLIPCheckpointer(model).resume_or_load(released_unicl, resume=False)
        elif door == "detectron2":
            DetectionCheckpointer(model).load(clean_weights(released_unicl))
        else:
            model.load_state_dict(unicl, strict=False)
    expected = convert(unicl)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.get(name, start[name])), name
    assert "left out (temperature of UniCL's" in caplog.text and "logit_scale" in caplog.text
    if door == "ours":
        assert "start from their initial values" in caplog.text  # neck and head
    losses = model.train()([tiny_input()])
    assert all(torch.isfinite(loss) for loss in losses.values())


def clean_weights(path):
    """Detectron2's own checkpointer does not read objects of unknown classes."""
    clean = path.replace("unicl.pth", "weights.pth")
    torch.save({"model": read_checkpoint(path)["model"]}, clean)
    return clean


def test_only_the_weights_are_read(released_unicl):
    assert set(read_checkpoint(released_unicl)) == {"model"}
    assert set(read_checkpoint(released_unicl, complete=True)) == {"model"}


def test_it_is_no_whole_model(released_unicl):
    with pytest.raises(CheckpointError, match="not hold all weights.*training may start"):
        load_weights(tiny_clip_glip(), released_unicl)


@pytest.mark.parametrize("door", ["ours", "torch"])
@pytest.mark.parametrize(
    "bottom_up, message",
    [
        (
            {"embed_dim": 32},
            r"patch_embed.proj.weight: \(16, 3, 4, 4\).*\(32, 3, 4, 4\) in the model.*embed_dim=16",
        ),
        ({"window_size": 7}, r"bias_table: \(49, 1\).*\(169, 1\) in the model.*window_size=4"),
        ({"depths": (1, 1, 3, 1)}, r"not hold all weights.*stages.2.blocks.2.*=\[1,1,2,1\]"),
        ({"depths": (1, 1, 1, 1)}, r"larger model.*stages.2.blocks.1.*=\[1,1,2,1\]"),
    ],
)
def test_another_swin(door, bottom_up, message, released_unicl, unicl):
    model = tiny_clip_glip(**bottom_up)
    before = model.language_backbone.final_norm.weight.clone()
    with pytest.raises(CheckpointError, match=message):
        if door == "ours":
            GLIPCheckpointer(model).resume_or_load(released_unicl, resume=False)
        else:
            model.load_state_dict(unicl, strict=False)
    assert torch.equal(model.language_backbone.final_norm.weight, before)


def test_another_text_transformer(unicl):
    model = tiny_clip_glip()
    short = {n: v for n, v in unicl.items() if "resblocks.1." not in n}
    with pytest.raises(CheckpointError, match=r"not hold all weights.*layers.1.*num_layers=1"):
        model.load_state_dict(short, strict=False)
    name = "text_encoder.token_embedding.weight"
    wide = {**unicl, name: torch.zeros(49408, 32)}
    with pytest.raises(CheckpointError, match=r"token_embedding.*\(49408, 32\).*\(49408, 16\)"):
        model.load_state_dict(wide, strict=False)


def test_a_model_with_bert_takes_the_image_tower_alone(released_unicl, unicl, caplog):
    model = tiny_model()
    start = {n: v.clone() for n, v in model.state_dict().items()}
    GLIPCheckpointer(model).resume_or_load(released_unicl, resume=False)
    expected = convert(unicl)
    for name, value in model.state_dict().items():
        taken = name in expected and name.startswith("backbone.")
        assert torch.equal(value, expected[name] if taken else start[name]), name
    assert "UniCL's text transformer is left out" in caplog.text


def test_the_image_tower_is_not_fetched_from_elsewhere(released_unicl):
    config = clip_config()
    config.backbone.bottom_up.pretrained = "swin_tiny_patch4_window7_224"
    assert config_for_weights(config, released_unicl).backbone.bottom_up.pretrained is None
