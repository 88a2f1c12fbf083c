"""SwinBackbone against timm's Swin, and what detection asks beyond it."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from glipv2_d2 import add_glip_config
from glipv2_d2.errors import CheckpointError
from glipv2_d2.modeling import SwinBackbone, blocks
from glipv2_d2.modeling.backbone.swin import SwinBlock, shifted_window_mask

NAMES = ("res2", "res3", "res4", "res5")
DIMENSIONS = {
    "embed_dim": 8,
    "depths": (2, 2, 2, 1),
    "num_heads": (1, 2, 2, 4),
    "window_size": 4,
}


def swin(seed=0, **options):
    torch.manual_seed(seed)
    model = SwinBackbone(**{**DIMENSIONS, "drop_path_rate": 0.0, "out_features": NAMES, **options})
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:  # start at 0 and 1, which hides mistakes
            nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.3)
        elif "attn" in name:  # starts so small that attention hardly shows
            nn.init.normal_(parameter, std=0.3)
    return model


def image(height, width, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


def timm_swin(ours, size):
    """timm's own model with the weights of ours; timm merges patches at a stage's beginning."""
    theirs = SwinTransformer(img_size=size, num_classes=0, drop_path_rate=0.0, **DIMENSIONS).eval()
    weights = {}
    for name, value in ours.state_dict().items():
        if name.startswith("stages."):
            _, stage, kind, *rest = name.split(".")
            stage = int(stage) + (kind == "downsample")
            weights[".".join(["layers", str(stage), kind, *rest])] = value
        elif name.startswith("patch_embed."):
            weights[name] = value
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected
    assert {n for n in missing if "attn_mask" not in n} == {"norm.weight", "norm.bias"}
    return theirs


def test_equals_timm_where_the_windows_divide_the_map():
    ours = swin().eval()
    x = image(128, 256)  # stages of 32 x 64 down to 4 x 8: multiples of the window, 4
    theirs = timm_swin(ours, (128, 256))
    actual = ours(x)
    y = theirs.patch_embed(x)
    for name, stage in zip(NAMES, theirs.layers):
        y = stage(y)
        expected = y
        if name != "res2":
            norm = ours.out_norms[name]
            expected = F.layer_norm(y, y.shape[-1:], norm.weight, norm.bias, 1e-5)
        # Some ten layers of sums of at most 256 terms of size 1.
        torch.testing.assert_close(actual[name], expected.permute(0, 3, 1, 2), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("values", [1, 3000, 20000])
def test_blocks_of_windows_and_positions_change_nothing(monkeypatch, values):
    """From one window at a time to some; two images, whose windows must not mix."""
    model = swin().eval()
    x = image(60, 90)
    whole = model(x)
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", values)
    with torch.no_grad():
        split = model(x)
    for name in NAMES:
        torch.testing.assert_close(split[name], whole[name], atol=2e-5, rtol=1e-4)


def official_attend(block, x):
    """The official detection Swin: pad, then shift, mask by slices, attend, shift back, crop."""
    batch, height, width, channels = x.shape
    window, shift = block.window_size, block.shift_size
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    padded_h, padded_w = x.shape[1:3]
    region = torch.zeros(padded_h, padded_w)
    slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(slices):
        for j, columns in enumerate(slices):
            region[rows, columns] = 3 * i + j
    x = torch.roll(x, (-shift, -shift), dims=(1, 2))
    out = torch.empty_like(x)
    for top in range(0, padded_h, window):
        for left in range(0, padded_w, window):
            rows, columns = slice(top, top + window), slice(left, left + window)
            part = region[rows, columns].reshape(-1)
            mask = torch.where(part[:, None] == part[None, :], 0.0, -100.0)[None]
            tokens = x[:, rows, columns].reshape(batch, window * window, channels)
            attended = block.attn(tokens, mask=mask)
            out[:, rows, columns] = attended.view(batch, window, window, channels)
    return torch.roll(out, (shift, shift), dims=(1, 2))[:, :height, :width]


@pytest.mark.parametrize("height, width", [(5, 7), (8, 8), (3, 9), (1, 1)])
def test_shifted_block_pads_before_it_shifts(height, width):
    torch.manual_seed(0)
    block = SwinBlock(8, 2, window_size=4, shift_size=2, mlp_ratio=4.0, drop_path=0.0).eval()
    nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(2, height, width, 8)
    padded = [-(-size // 4) * 4 for size in (height, width)]
    mask = shifted_window_mask(*padded, 4, 2, x.device)
    torch.testing.assert_close(block._attend(x, mask), official_attend(block, x))


def test_differs_from_timm_on_purpose_where_it_pads():
    """timm shifts first and pads then. Released GLIP weights were trained the other way round."""
    ours = swin().eval()
    x = image(128, 144)  # stages of width 36, 18, 9 and 5; windows of 4, moved by 2
    theirs = timm_swin(ours, (128, 144))
    actual = ours(x)
    y = theirs.patch_embed(x)
    # Where the padding is as wide as the shift, as in the second stage, both forms coincide.
    for name, stage, same in zip(NAMES, theirs.layers, (True, True, False)):
        y = stage(y)
        expected = y if name == "res2" else ours.out_norms[name](y)
        difference = (actual[name] - expected.permute(0, 3, 1, 2)).abs().max()
        assert difference < 1e-4 if same else difference > 0.1


@pytest.mark.parametrize("height, width", [(33, 47), (1, 1), (31, 130), (64, 64), (5, 100)])
def test_any_size_works(height, width):
    model = swin().eval()
    shapes = model.output_shape()
    outputs = model(image(height, width))
    for i, name in enumerate(NAMES):
        stride = 4 * 2**i
        expected = (2, 8 * 2**i, -(-height // stride), -(-width // stride))
        assert tuple(outputs[name].shape) == expected
        assert outputs[name].isfinite().all()
        assert (shapes[name].channels, shapes[name].stride) == (8 * 2**i, stride)


def test_images_of_a_batch_do_not_mix():
    model, x = swin().eval(), image(40, 56)
    whole, single = model(x), model(x[1:])
    for name in NAMES:
        torch.testing.assert_close(whole[name][1:], single[name], atol=1e-5, rtol=1e-4)


def test_only_the_wanted_features_come_out():
    model = swin(out_features=("res3", "res5"))
    assert list(model(image(32, 32))) == ["res3", "res5"] == list(model.output_shape())
    assert set(model.out_norms) == {"res3", "res5"}


def test_unknown_feature():
    with pytest.raises(ValueError, match=r"'p3'.*'stem'.*res2.*res5"):
        swin(out_features=("res3", "p3", "stem"))


@pytest.mark.parametrize("order", [("res3", "res5"), ("res5", "res3")])
def test_size_divisibility_is_the_coarsest_stride(order):
    assert swin(out_features=order).size_divisibility == 32


@pytest.mark.parametrize("frozen", [-1, 0, 1, 2])
def test_frozen_stages(frozen):
    model = swin(frozen_stages=frozen, drop_path_rate=0.5)
    model.eval().train()
    outputs = model(image(32, 48))
    sum(outputs[name].square().mean() for name in ("res3", "res4", "res5")).backward()
    parts = [model.patch_embed, *model.stages]
    for i, part in enumerate(parts):
        is_frozen = i <= frozen
        assert all((p.grad is None) == is_frozen for p in part.parameters()), i
        assert all(m.training == (not is_frozen) for m in part.modules()), i


def test_stochastic_depth_grows_linearly():
    model = swin(drop_path_rate=0.6)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for s in model.stages for block in s.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_checkpointing_gives_identical_gradients():
    results = []
    for use_checkpoint in (False, True):
        model = swin(use_checkpoint=use_checkpoint, drop_path_rate=0.5).train()
        torch.manual_seed(4)
        outputs = model(image(40, 36))
        loss = sum(o.pow(3).mean() for o in outputs.values())
        results.append(torch.autograd.grad(loss, list(model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert sum(g.abs().sum() for g in results[0]) > 0


def test_pretrained_weights_are_loaded_from_a_file_of_either_kind(tmp_path):
    sizes = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    source = SwinTransformer(img_size=32, **sizes, num_classes=3)
    state = source.state_dict()
    torch.save({"model": state}, tmp_path / "timm.pth")
    authors = {n.replace("layers.1.downsample", "layers.0.downsample"): p for n, p in state.items()}
    torch.save({"model": authors}, tmp_path / "authors.pth")
    options = {**sizes, "out_features": ("res3",)}
    for name in ("timm.pth", "authors.pth"):
        loaded = SwinBackbone(**options, pretrained=str(tmp_path / name))
        assert torch.equal(loaded.stages[0].downsample.reduction.weight,
                           state["layers.1.downsample.reduction.weight"])  # fmt: skip
        assert torch.equal(loaded.patch_embed.proj.weight, state["patch_embed.proj.weight"])


def test_pretrained_weights_of_another_swin_are_refused(tmp_path):
    sizes = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    other = SwinTransformer(img_size=32, **sizes)
    torch.save({"model": other.state_dict()}, tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match="another size of model.*model.backbone.bottom_up"):
        SwinBackbone(pretrained=str(tmp_path / "small.pth"))


def test_a_yacs_config_gets_the_swin_by_name():
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.GLIP.CONFIG = "demo/scenes.py"
    cfg.MODEL.BACKBONE.NAME = "SwinBackbone"
    backbone = build_backbone(cfg)
    assert {n: s.stride for n, s in backbone.output_shape().items()} == {
        "res3": 8,
        "res4": 16,
        "res5": 32,
    }
