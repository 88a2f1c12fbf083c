"""GLIPv2 as a whole: GLIP's results, three losses, frozen parts."""

import pytest
import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from omegaconf import OmegaConf

from glipv2_d2 import Prompt, add_glip_config
from glipv2_d2.errors import ConfigError
from glipv2_d2.language import PromptTokenizer
from glipv2_d2.modeling import GLIP, GLIPv2
from tests.support.tiny import lively, tiny_glipv2_config, tiny_input, tiny_model

LOSSES = ("loss_token", "loss_box", "loss_centerness", "loss_contrast", "loss_mlm")


def glipv2(seed=0, **overrides):
    config = tiny_glipv2_config()
    LazyConfig.apply_overrides(config, [f"{key}={value}" for key, value in overrides.items()])
    torch.manual_seed(seed)
    return instantiate(config)


def inputs():
    caption = Prompt.parse("a [red kite] above the [dog]")
    return [tiny_input(), {**tiny_input(seed=1), "prompt": caption, "width": 96}]


def clipped(batch):
    """The caption has two phrases; the boxes of `tiny_input` name phrases 0 and 2."""
    batch[1]["instances"].gt_classes.clamp_(max=1)
    return batch


@pytest.fixture(scope="module")
def model():
    return glipv2()


def test_it_is_registered():
    assert META_ARCH_REGISTRY.get("GLIPv2") is GLIPv2
    assert issubclass(GLIPv2, GLIP)


def test_every_loss_and_a_gradient_for_every_parameter(model):
    model.train()
    model.zero_grad()
    torch.manual_seed(3)
    losses = model(clipped(inputs()))
    assert tuple(losses) == LOSSES
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    for part in ("contrast", "mlm_head"):
        assert any(p.grad.abs().sum() > 0 for p in getattr(model, part).parameters()), part


def test_a_batch_without_boxes_still_reaches_every_parameter(model):
    model.train()
    model.zero_grad()
    losses = model([tiny_input(boxes=(), classes=())])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_contrast"] == 0
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@torch.no_grad()
def same_detections(first, second):
    """Of both models, on one image; more than a few, or equality would say nothing."""
    (a,), (b,) = first.eval()([tiny_input()]), second.eval()([tiny_input()])
    assert len(a["instances"]) > 20
    for field in ("scores", "pred_classes"):
        assert torch.equal(a["instances"].get(field), b["instances"].get(field))
    assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)


def test_without_the_additions_it_is_glip():
    plain = lively(tiny_model(seed=5)).train()
    bare = glipv2(seed=5, contrast="null", mlm_head="null").train()
    bare.load_state_dict(plain.state_dict())
    expected, found = plain(clipped(inputs())), bare(clipped(inputs()))
    assert found == expected
    same_detections(plain, bare)


def test_losses_of_pretraining_do_not_change_what_is_found():
    """Masking and contrast are of training; at use the model is GLIP with the same weights."""
    model, plain = lively(glipv2()), tiny_model(seed=1)
    plain.load_state_dict(model.state_dict(), strict=False)
    same_detections(plain, model)


def test_words_are_masked_for_the_model_and_not_for_the_targets(model, monkeypatch):
    model.train()
    seen = {}

    def spy(name):
        original = type(getattr(model, name)).forward

        def forward(self, *args):
            seen[name] = args
            return original(self, *args)

        monkeypatch.setattr(type(getattr(model, name)), "forward", forward)

    spy("contrast")
    spy("mlm_head")
    spy("language_backbone")
    monkeypatch.setattr(model.mlm_head, "mask_prob", 1.0)
    batch = clipped(inputs())
    model(batch)
    tokens = model.tokenizer([x["prompt"] for x in batch])
    targets, labels = seen["contrast"][2], seen["mlm_head"][1]
    masked = labels >= 0
    assert masked.any()
    assert torch.equal(labels[masked], tokens.input_ids[masked])
    assert torch.equal(targets.words, tokens.mask & ~masked)
    (shown,) = seen["language_backbone"]
    assert torch.equal(shown.input_ids[~masked], tokens.input_ids[~masked])
    assert (shown.input_ids[masked] == model.tokenizer.mask_token_id).any()
    for found, expected in zip(targets.positive_maps, tokens.positive_maps):
        assert torch.equal(found, expected)
    # "cat" and "red kite" are in the first image, "dog" and the dots are not.
    words = [model.tokenizer.tokenizer.decode([i]) for i in tokens.input_ids[0][masked[0]]]
    assert words == ["cat", "red", "kite"]


def test_contrast_is_before_the_fusion_and_masked_words_are_after_it(model, monkeypatch):
    model.train()
    seen = {}

    def remember(name):
        def hook(module, args, output):
            seen[name] = args, output

        return getattr(model, name).register_forward_hook(hook)

    names = ("backbone", "language_backbone", "neck", "contrast", "mlm_head")
    hooks = [remember(name) for name in names]
    monkeypatch.setattr(model.mlm_head, "mask_prob", 1.0)
    model(clipped(inputs()))
    for hook in hooks:
        hook.remove()
    features, text, _ = seen["contrast"][0]
    pyramid = seen["backbone"][1].values()
    assert all(found is level for found, level in zip(features, pyramid, strict=True))
    assert text is seen["language_backbone"][1]
    fused, labels = seen["mlm_head"][0]
    assert fused is seen["neck"][1][1]
    # The words that are asked for are not what the text encoder reads.
    (shown,), asked = seen["language_backbone"][0], labels >= 0
    assert (shown.input_ids[asked] == model.tokenizer.mask_token_id).sum() > asked.sum() / 2


def test_the_contrast_knows_the_padding_of_the_batch(model):
    """A wide and a high image: 64 x 96 and 128 x 40, which a batch pads to 128 x 96."""
    model.train()
    seen = []
    hook = model.contrast.register_forward_pre_hook(lambda module, args: seen.append(args))
    model([tiny_input(), tiny_input(height=128, width=40, boxes=((8, 8, 30, 100),), classes=(0,))])
    hook.remove()
    features, _, targets = seen[0]
    inside = targets.inside.split([level[0, 0].numel() for level in features], dim=1)
    for own, level, stride in zip(inside, features, (8, 16, 32, 64, 128)):
        for mask, (height, width) in zip(own.unflatten(1, level.shape[-2:]), [(64, 96), (128, 40)]):
            expected = torch.zeros_like(mask)
            expected[: -(-height // stride), : -(-width // stride)] = True
            assert torch.equal(mask, expected)
    assert targets.inside[targets.matches >= 0].all() and not targets.inside.all()


def test_bf16_losses_are_finite(model):
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(clipped(inputs()))
    assert all(loss.isfinite() for loss in losses.values())


def test_only_the_named_part_is_trained():
    model = glipv2(trained_parts="[contrast]").train()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f"contrast.{name}" for name, _ in model.contrast.named_parameters()
    }
    assert model.training and model.contrast.training
    assert not model.neck.training and not model.mlm_head.training
    assert tuple(model(clipped(inputs()))) == ("loss_contrast",)


def test_frozen_parts_run_as_at_inference():
    """Without gradients, on which the lean form of their layers depends; trained ones with."""
    for trained, expected in (("contrast", False), ("neck", True)):
        model = glipv2(trained_parts=f"[{trained}]").train()
        seen = {}
        for name in ("backbone", "neck"):
            getattr(model, name).register_forward_pre_hook(
                lambda module, args, name=name, seen=seen: seen.update(
                    {name: torch.is_grad_enabled()}
                )
            )
        model(clipped(inputs()))
        assert seen == {"backbone": False, "neck": expected}


@pytest.mark.parametrize("name", ["mask_head", "losses", "anchor_generator"])
def test_an_unknown_part_is_refused(name):
    """So is one that the model has, without anything to train."""
    with pytest.raises(ConfigError, match=f"trained_parts names '{name}', but the model has no"):
        glipv2(trained_parts=f"[{name}]")


@pytest.mark.parametrize("parts", ["mask_head", "[]"])
def test_trained_parts_is_a_list_of_names(parts):
    with pytest.raises(ConfigError, match="trained_parts is a list of parts"):
        glipv2(trained_parts=parts)


def test_masking_needs_a_mask_token(monkeypatch):
    original = PromptTokenizer.__init__

    def without_mask(self, *args, **options):
        original(self, *args, **options)
        self.mask_token_id = None

    monkeypatch.setattr(PromptTokenizer, "__init__", without_mask)
    with pytest.raises(ConfigError, match="needs a mask token"):
        glipv2()


def test_the_vocabulary_is_the_tokenizers():
    with pytest.raises(ConfigError, match="vocabulary_size is 100, .* has 30522 entries"):
        glipv2(**{"mlm_head.vocabulary_size": 100})


def test_through_detectron2s_yacs_door(tmp_path):
    path = tmp_path / "tiny_glipv2.yaml"
    config = OmegaConf.create({"model": tiny_glipv2_config()}, flags={"allow_objects": True})
    LazyConfig.save(config, str(path))
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GLIPv2"
    cfg.MODEL.GLIP.CONFIG = str(path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.DATASETS.TEST = ()
    model = build_model(cfg)
    assert isinstance(model, GLIPv2) and model.contrast is not None
