"""Weights of other programs through every door: torch's, Detectron2's and ours."""

import pytest
import timm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn

from glipv2_d2.checkpoint import (
    GLIPCheckpointer,
    build_for_weights,
    config_for_weights,
    load_weights,
    read_checkpoint,
    release_state,
)
from glipv2_d2.errors import CheckpointError
from glipv2_d2.modeling.backbone import ClipResNetBackbone, CoSwinBackbone, SwinBackbone
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_config, tiny_model, tiny_unfused_model


def assert_equal(model, expected):
    own, other = model.state_dict(), expected.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in own.items())


def test_torch(official, fused):
    model = tiny_model()
    result = model.load_state_dict(official)
    assert not result.missing_keys and not result.unexpected_keys
    assert_equal(model, fused)
    again = tiny_model()
    again.load_state_dict(fused.state_dict())  # our own names still go
    assert_equal(again, fused)


def test_torch_as_a_part_of_another_model(official, fused):
    whole = nn.ModuleDict({"glip": tiny_model(), "extra": nn.Linear(2, 2)})
    state = {f"glip.{k}": v for k, v in official.items()}
    state.update((f"extra.{k}", v) for k, v in whole["extra"].state_dict().items())
    whole.load_state_dict(state)
    assert_equal(whole["glip"], fused)


def test_a_release_without_the_frozen_text_is_whole_for_detectron2(tmp_path, caplog):
    """The stock loader called 50 lines of weights missing, which come with the language model."""
    config = tiny_config()
    config.language_backbone.frozen = True
    config.language_backbone.pretrained = "minilm"
    config.language_backbone.model = "minilm"
    config.neck.text_channels = 384
    model = instantiate(config)
    torch.save({"model": release_state(model, torch.float32)}, tmp_path / "release.pth")
    text = {k: v.clone() for k, v in model.language_backbone.state_dict().items()}
    loaded = instantiate(config)
    DetectionCheckpointer(loaded).load(str(tmp_path / "release.pth"))
    assert_equal(loaded, model)
    assert all(torch.equal(text[k], v) for k, v in loaded.language_backbone.state_dict().items())
    assert "not found" not in caplog.text
    # What is missing indeed is still told.
    state = release_state(model, torch.float32)
    del state["head.bias0"]
    torch.save({"model": state}, tmp_path / "part.pth")
    DetectionCheckpointer(loaded).load(str(tmp_path / "part.pth"))
    told = next(r.getMessage() for r in caplog.records if "not found" in r.getMessage())
    assert "bias0" in told and "language_backbone" not in told


def test_detectron2s_own_checkpointer(released, fused, caplog):
    model = tiny_model()
    DetectionCheckpointer(model).load(str(released))
    assert_equal(model, fused)
    assert "not found" not in caplog.text and "not used" not in caplog.text


def test_ours(released, fused, caplog):
    for load in (
        lambda model: load_weights(model, released),
        lambda model: GLIPCheckpointer(model).resume_or_load(str(released), resume=False),
        lambda model: GLIPCheckpointer(model, strict=True).load(str(released)),
    ):
        model = tiny_model()
        load(model)
        assert_equal(model, fused)
    assert caplog.text.count("its 'model_ema' beside the weights") == 3


@pytest.mark.parametrize("official_names", [False, True])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "module._orig_mod."])
def test_weights_of_a_wrapped_model_through_every_door(fused, tmp_path, prefix, official_names):
    state = official_state(fused.state_dict()) if official_names else fused.state_dict()
    state = {prefix + name: value for name, value in state.items()}
    path = tmp_path / "w.pth"
    torch.save({"model": state}, path)
    config = tiny_config()
    config.language_backbone.pretrained = True  # its folder holds none: building would fail
    for load in (
        lambda model: load_weights(model, path),
        lambda model: GLIPCheckpointer(model).resume_or_load(str(path), resume=False),
        lambda model: DetectionCheckpointer(model).load(str(path)),
        lambda model: model.load_state_dict(state),
    ):
        model = build_for_weights(config, path)
        load(model)
        assert_equal(model, fused)


def test_glip_t_a(unfused, tmp_path):
    torch.save(official_state(unfused.state_dict()), tmp_path / "a.pth")
    model = tiny_unfused_model()
    load_weights(model, tmp_path / "a.pth")
    assert_equal(model, unfused)


def test_only_the_weights_of_a_released_file_are_read(released):
    assert set(read_checkpoint(released)) == {"model"}
    assert set(read_checkpoint(released, complete=True)) == {"model"}


@pytest.mark.parametrize("door", ["torch", "detectron2", "ours"])
@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"backbone.bottom_up.embed_dim": 32}, "another size of model.*32.*in the model"),
        ({"neck.num_blocks": 3}, "not hold all weights.*neck.blocks.2"),
        ({"neck.num_blocks": 1}, "larger model.*neck.blocks.1"),
    ],
)
def test_weights_of_another_glip_are_refused(released, official, door, overrides, message):
    model = tiny_model(**overrides)
    before = model.head.bias0.clone()
    with pytest.raises(CheckpointError, match=message):
        if door == "torch":
            model.load_state_dict(official, strict=False)
        elif door == "detectron2":
            DetectionCheckpointer(model).load(str(released))
        else:
            load_weights(model, released)
    assert torch.equal(model.head.bias0, before)


def test_training_may_start_from_an_official_model_of_another_kind(unfused, tmp_path, caplog):
    torch.save(official_state(unfused.state_dict()), tmp_path / "a.pth")
    model = tiny_model()
    start = {k: v.clone() for k, v in model.state_dict().items()}
    GLIPCheckpointer(model).load(str(tmp_path / "a.pth"), checkpointables=[])
    key = "backbone.bottom_up.patch_embed.proj.weight"
    assert torch.equal(model.state_dict()[key], unfused.state_dict()[key])
    assert torch.equal(model.neck.blocks[0].fusion.gamma_v, start["neck.blocks.0.fusion.gamma_v"])
    assert "start from their initial values" in caplog.text


def test_the_file_is_named_when_conversion_fails(official, tmp_path):
    torch.save({**official, "rpn.head.log_scale_2": torch.ones(2, 32)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="w.pth.*log_scale_2.*no place"):
        load_weights(tiny_model(), tmp_path / "w.pth")


def test_every_loader_takes_the_offsets_of_a_prompt_tuned_official_model(official, tmp_path):
    offsets = torch.full((1000, 32), 0.25)
    torch.save({**official, "rpn.tunable_linear.weight": offsets}, tmp_path / "w.pth")
    ours, stock = tiny_model(), tiny_model()
    load_weights(ours, tmp_path / "w.pth")
    DetectionCheckpointer(stock).load(str(tmp_path / "w.pth"))
    for model in (ours, stock):
        assert torch.equal(model.prompt_embeddings.default, offsets)
        assert not model.prompt_embeddings.default.requires_grad


def test_a_truncated_release(released, tmp_path):
    whole = released.read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="w.pth.*truncated"):
        load_weights(tiny_model(), tmp_path / "w.pth")


def test_what_the_file_holds_is_not_fetched(released, fused, tmp_path):
    config = tiny_config()
    config.language_backbone.pretrained = True  # its folder holds none: building would fail
    config.backbone.bottom_up.pretrained = "no_such_file.pth"
    ours = tmp_path / "ours.pth"
    torch.save({"model": fused.state_dict()}, ours)
    for weights in (released, ours):
        model = build_for_weights(config, weights)
        load_weights(model, weights)
        assert_equal(model, fused)
        assert model.language_backbone.pretrained is None
    assert config.language_backbone.pretrained and config.backbone.bottom_up.pretrained


def test_what_the_file_lacks_is_asked_for(fused, tmp_path):
    config = tiny_config()
    config.language_backbone.pretrained = True
    part = {k: v for k, v in fused.state_dict().items() if "language_backbone" not in k}
    torch.save(part, tmp_path / "part.pth")
    for weights in (tmp_path / "part.pth", "", "https://example.org/w.pth"):
        assert config_for_weights(config, weights) is config
    with pytest.raises(CheckpointError, match="there is no checkpoint 'none.pth'"):
        build_for_weights(config, "none.pth")


def test_a_frozen_language_backbone_that_a_file_changed_is_released_with_the_model(tmp_path):
    model = tiny_model(**{"language_backbone.frozen": True})
    model.language_backbone.pretrained = "somewhere"
    same = tmp_path / "same.pth"
    torch.save(model.state_dict(), same)
    load_weights(model, same)
    assert model.language_backbone.pretrained == "somewhere"
    other = {k: v + 1 if "language" in k else v for k, v in model.state_dict().items()}
    torch.save(other, tmp_path / "other.pth")
    load_weights(model, tmp_path / "other.pth")
    assert model.language_backbone.pretrained is None


ERRORS = (
    OSError("No space left on device"),
    LocalEntryNotFoundError("The hub cannot be reached.\nMore of it."),
    RuntimeError("Invalid pretrained tag (x) for the model."),
)


@pytest.fixture
def offline(monkeypatch):
    """Call it with the error that timm shall end in when it is asked for weights."""
    build = timm.create_model

    def fail_with(error):
        def create_model(name, pretrained=False, **options):
            if pretrained:
                raise error
            return build(name, **options)

        monkeypatch.setattr(timm, "create_model", create_model)

    return fail_with


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("tower", "name"),
    [
        (SwinBackbone, "swin_tiny_patch4_window7_224"),
        (CoSwinBackbone, "swin_tiny_patch4_window7_224"),
        (ClipResNetBackbone, "resnet50_clip.openai"),
    ],
)
def test_one_error_that_says_what_to_do(offline, tower, name, error):
    offline(error)
    with pytest.raises(CheckpointError) as found:
        tower(pretrained=name)
    message = str(found.value)
    assert f"'{name}'" in message and "\n" not in message
    assert str(error).splitlines()[0].rstrip(".") in message
    assert "give a local file with model.backbone.bottom_up.pretrained=FILE" in message


@pytest.mark.parametrize("tower", [SwinBackbone, ClipResNetBackbone])
def test_a_name_that_is_neither_a_file_nor_timm_s(tower, tmp_path):
    with pytest.raises(CheckpointError, match="none.pth' are neither a file nor a timm model"):
        tower(pretrained=str(tmp_path / "none.pth"))


def test_weights_of_another_kind_of_tower_are_refused(official, tmp_path):
    torch.save(official, tmp_path / "glip.pth")
    with pytest.raises(CheckpointError, match="glip.pth' holds weights of another model: 0 of the"):
        SwinBackbone(pretrained=str(tmp_path / "glip.pth"))
