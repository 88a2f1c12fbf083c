"""GLIPv2 as a whole: GLIP's results, the losses of its task heads, frozen parts."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.structures import Boxes
from omegaconf import OmegaConf
from torch import nn

from glipv2_d2 import Prompt, add_glip_config
from glipv2_d2.errors import ConfigError
from glipv2_d2.language import PromptTokenizer
from glipv2_d2.modeling import GLIP, GLIPv2
from glipv2_d2.modeling.heads import MaskTargets, TaskHead
from tests.support.tiny import (
    detect,
    lively,
    tiny_glipv2_config,
    tiny_input,
    tiny_masks_config,
    tiny_masks_input,
    tiny_masks_model,
    tiny_model,
)

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
def glipv2_model():
    return glipv2()


def test_it_is_registered():
    assert META_ARCH_REGISTRY.get("GLIPv2") is GLIPv2
    assert issubclass(GLIPv2, GLIP)


def test_every_loss_and_a_gradient_for_every_parameter(glipv2_model):
    glipv2_model.train()
    glipv2_model.zero_grad()
    torch.manual_seed(3)
    losses = glipv2_model(clipped(inputs()))
    assert tuple(losses) == LOSSES
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    without = [name for name, p in glipv2_model.named_parameters() if p.grad is None]
    assert without == []
    for part in ("contrast", "mlm_head"):
        assert any(p.grad.abs().sum() > 0 for p in getattr(glipv2_model, part).parameters()), part


def test_a_batch_without_boxes_still_reaches_every_parameter(glipv2_model):
    glipv2_model.train()
    glipv2_model.zero_grad()
    losses = glipv2_model([tiny_input(boxes=(), classes=())])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_contrast"] == 0
    sum(losses.values()).backward()
    assert [name for name, p in glipv2_model.named_parameters() if p.grad is None] == []


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


def test_words_are_masked_for_the_model_and_not_for_the_targets(glipv2_model, monkeypatch):
    glipv2_model.train()
    seen = {}

    def spy(name):
        original = type(getattr(glipv2_model, name)).forward

        def forward(self, *args):
            seen[name] = args
            return original(self, *args)

        monkeypatch.setattr(type(getattr(glipv2_model, name)), "forward", forward)

    spy("contrast")
    spy("mlm_head")
    spy("language_backbone")
    monkeypatch.setattr(glipv2_model.mlm_head, "mask_prob", 1.0)
    batch = clipped(inputs())
    glipv2_model(batch)
    tokens = glipv2_model.tokenizer([x["prompt"] for x in batch])
    targets, (_, labels) = seen["contrast"][2], seen["mlm_head"]
    masked = tokens.mask & ~targets.words
    assert masked.any()
    assert torch.equal(labels, tokens.input_ids[masked])
    (shown,) = seen["language_backbone"]
    assert torch.equal(shown.input_ids[~masked], tokens.input_ids[~masked])
    assert (shown.input_ids[masked] == glipv2_model.tokenizer.mask_token_id).any()
    for found, expected in zip(targets.positive_maps, tokens.positive_maps):
        assert torch.equal(found, expected)
    # "cat" and "red kite" are in the first image, "dog" and the dots are not.
    words = [glipv2_model.tokenizer.tokenizer.decode([i]) for i in tokens.input_ids[0][masked[0]]]
    assert words == ["cat", "red", "kite"]


def test_contrast_is_before_the_fusion_and_masked_words_are_after_it(glipv2_model, monkeypatch):
    glipv2_model.train()
    seen = {}

    def remember(name):
        def hook(module, args, output):
            seen[name] = args, output

        return getattr(glipv2_model, name).register_forward_hook(hook)

    names = ("backbone", "language_backbone", "neck", "contrast", "mlm_head")
    hooks = [remember(name) for name in names]
    monkeypatch.setattr(glipv2_model.mlm_head, "mask_prob", 1.0)
    glipv2_model(clipped(inputs()))
    for hook in hooks:
        hook.remove()
    features, text, _ = seen["contrast"][0]
    pyramid = seen["backbone"][1].values()
    assert all(found is level for found, level in zip(features, pyramid, strict=True))
    assert text is seen["language_backbone"][1]
    words, labels = seen["mlm_head"][0]
    # The words that are asked for are not what the text encoder reads.
    (shown,), asked = seen["language_backbone"][0], ~seen["contrast"][0][2].words
    asked &= text.mask
    assert torch.equal(words, seen["neck"][1][1][asked]) and len(words) == len(labels)
    assert (shown.input_ids[asked] == glipv2_model.tokenizer.mask_token_id).sum() > len(labels) / 2


def test_the_contrast_knows_the_padding_of_the_batch(glipv2_model):
    """A wide and a high image: 64 x 96 and 128 x 40, which a batch pads to 128 x 96."""
    glipv2_model.train()
    seen = []
    hook = glipv2_model.contrast.register_forward_pre_hook(lambda module, args: seen.append(args))
    glipv2_model(
        [tiny_input(), tiny_input(height=128, width=40, boxes=((8, 8, 30, 100),), classes=(0,))]
    )
    hook.remove()
    features, _, targets = seen[0]
    inside = targets.inside.split([level[0, 0].numel() for level in features], dim=1)
    for own, level, stride in zip(inside, features, (8, 16, 32, 64, 128)):
        for mask, (height, width) in zip(own.unflatten(1, level.shape[-2:]), [(64, 96), (128, 40)]):
            expected = torch.zeros_like(mask)
            expected[: -(-height // stride), : -(-width // stride)] = True
            assert torch.equal(mask, expected)
    assert targets.inside[targets.matches >= 0].all() and not targets.inside.all()


def test_bf16_losses_are_finite(glipv2_model):
    glipv2_model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = glipv2_model(clipped(inputs()))
    assert all(loss.isfinite() for loss in losses.values())


def frozen(model, *but):
    """The model in training with all its parts but these frozen, as the engine leaves it."""
    model.train()
    for name, part in model.named_children():
        if name not in but:
            part.requires_grad_(False).eval()
    return model


@pytest.mark.parametrize(
    ("trained", "losses"),
    [
        (("contrast",), ("loss_contrast",)),
        (("mlm_head",), ("loss_mlm",)),
        (("neck", "contrast"), (*LOSSES[:3], "loss_contrast")),
        (("head",), LOSSES[:3]),
    ],
)
def test_a_frozen_head_has_no_loss_and_masks_no_word(trained, losses):
    model, shown = frozen(glipv2(**{"mlm_head.mask_prob": 1.0}), *trained), []
    model.language_backbone.register_forward_pre_hook(lambda module, args: shown.append(args[0]))
    batch = clipped(inputs())
    found = model(batch)
    assert tuple(found) == losses and all(loss.requires_grad for loss in found.values())
    masked = (shown[0].input_ids == model.tokenizer.mask_token_id).any()
    assert masked == ("mlm_head" in trained)


@pytest.mark.parametrize(
    ("trained", "expected"), [("contrast", (False, False)), ("neck", (False, True))]
)
def test_no_graph_is_recorded_for_frozen_parts(trained, expected):
    run = frozen(glipv2(), trained).forward_training(clipped(inputs()))
    assert (run.features[0].requires_grad, run.levels[0].requires_grad) == expected


class Presence(TaskHead):
    """Whether something is in the image at all: a head that no file of the package knows."""

    def __init__(self, channels):
        super().__init__()
        self.logit = nn.Linear(channels, 1)

    def losses(self, run):
        there = torch.tensor([float(len(phrases) > 0) for phrases in run.batch.gt_phrases])
        logits = self.logit(run.words.mean(dim=1))[:, 0]
        return {"loss_presence": F.binary_cross_entropy_with_logits(logits, there)}


def test_a_new_task_head_needs_a_config_only():
    config = tiny_glipv2_config()
    config.presence = L(Presence)(channels=32)
    model = instantiate(config).train()
    assert list(model.task_heads) == ["contrast", "mlm_head", "presence"]
    losses = model([tiny_input(), tiny_input(seed=1, boxes=(), classes=())])
    assert tuple(losses) == (*LOSSES, "loss_presence")
    sum(losses.values()).backward()
    assert model.presence.logit.weight.grad.abs().sum() > 0
    assert "presence.logit.weight" in model.state_dict()


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


# Masks


def test_the_mask_loss_joins_the_others():
    model = tiny_masks_model().train()
    seen = {}
    for name in ("neck", "mask_head"):
        getattr(model, name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: (args, output)})
        )
    losses = model([tiny_masks_input(), tiny_masks_input(seed=1, boxes=(), classes=())])
    levels, words, _ = seen["mask_head"][0]
    assert levels is seen["neck"][1][0] and words is seen["neck"][1][1]
    assert list(losses) == ["loss_token", "loss_box", "loss_centerness", "loss_mask"]
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    # Fine-tuning of the entire network: masks teach the neck, too.
    model.zero_grad()
    model([tiny_masks_input()])["loss_mask"].backward()
    assert model.neck.blocks[-1].dynamic_conv.relu.fc1.weight.grad.abs().sum() > 0


def test_masks_of_predictions_are_trained_on():
    """Matched predictions come decoded, continuous, with the box that they are matched to."""
    model = tiny_masks_model().train()
    with torch.no_grad():  # deltas of 0: the predictions are the anchors
        model.head.bbox_pred.weight.zero_()
        model.head.bbox_pred.bias.zero_()
    made = tiny_masks_input()
    targets = MaskTargets.of(model.forward_training([made]))
    assert torch.equal(targets.boxes[0], made["instances"].gt_boxes.tensor)
    assert torch.equal(targets.masks[0], made["instances"].gt_masks.tensor)
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    levels = [torch.zeros(1, 1, *size) for size in sizes]
    anchors = torch.cat([boxes.tensor for boxes in model.anchor_generator(levels)])
    assert len(targets.predicted[0]) == len(targets.matched[0]) > 0
    for box in targets.predicted[0]:
        assert ((anchors - box).abs().amax(dim=1) < 1e-3).any()
    # The matcher takes only anchors with their center in the box.
    centers = Boxes(targets.predicted[0]).get_centers()
    x0y0, x1y1 = targets.boxes[0][targets.matched[0]].split(2, dim=1)
    assert ((x0y0 < centers) & (centers < x1y1)).all()
    assert targets.matched[0].unique().tolist() == [0, 1]


def with_batch_norm():
    """A backbone with statistics that a forward pass in training mode would change."""
    model = tiny_masks_config()
    model.backbone.bottom_up = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
        stages=L(ResNet.make_default_stages)(depth=18, norm="BN"),
        out_features=["res3", "res4", "res5"],
    )
    torch.manual_seed(0)
    return instantiate(model)


def test_the_mask_stage_changes_nothing_else():
    model = frozen(with_batch_norm(), "mask_head")
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    # All parameters in the hands of the optimizer, with weight decay.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(2):
        losses = model([tiny_masks_input(seed=seed), tiny_masks_input(seed=9)])
        assert list(losses) == ["loss_mask"]
        optimizer.zero_grad()
        losses["loss_mask"].backward()
        optimizer.step()
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    assert changed == {key for key in before if key.startswith("mask_head.")}
    kept = [p for name, p in model.named_parameters() if not name.startswith("mask_head.")]
    assert all(p.grad is None for p in kept)


def test_masks_can_be_learnt():
    """The upper half of each box: a few steps of the head alone."""
    model = frozen(tiny_masks_model(), "mask_head")
    batch = [tiny_masks_input(height=128, width=128, boxes=((8, 8, 72, 72), (40, 16, 120, 112)))]
    optimizer = torch.optim.AdamW(model.mask_head.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        losses.append(model(batch)["loss_mask"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_masks_in_bf16():
    model = tiny_masks_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.train()([tiny_masks_input()])
        (found,) = detect(model.eval(), tiny_input())
    assert len(found.pred_masks) == len(found) > 0
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@torch.no_grad()
def test_masks_of_parameters_in_another_precision(dtype):
    model = tiny_masks_model().eval()
    (expected,) = model.inference([tiny_input()], do_postprocess=False)
    (found,) = model.to(dtype).inference([tiny_input()], [expected], do_postprocess=False)
    assert len(found) > 5
    masks, reference = (x.pred_masks.tensor.double() for x in (found, expected))
    torch.testing.assert_close(masks, reference, atol=0.05, rtol=0)


def test_a_batch_without_masks_is_refused():
    model = frozen(tiny_masks_model(), "mask_head")
    with pytest.raises(ConfigError, match=r"image_0\.png has 2 boxes but no gt_masks.*use_masks"):
        model([tiny_input()])
    assert model([tiny_input(boxes=(), classes=())])["loss_mask"] == 0
