"""The pyramid, and other projects' backbones under it."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone import build_backbone
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from detectron2.utils.events import EventStorage

from glipv2_d2 import add_glip_config
from glipv2_d2.modeling import SwinBackbone, build_fpn
from tests.support.tiny import tiny_config, tiny_input

LEVELS = ("p3", "p4", "p5", "p6", "p7")


def pyramid(drop_block=0.0):
    torch.manual_seed(0)
    bottom_up = SwinBackbone(
        embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=4, drop_path_rate=0.0
    )
    return build_fpn(bottom_up, out_channels=12, drop_block=drop_block)


def image(height=96, width=128):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_p6_comes_from_p5():
    fpn, x = pyramid().eval(), image()
    out = fpn(x)
    assert tuple(out) == LEVELS
    for i, name in enumerate(LEVELS):
        stride = 8 * 2**i
        assert tuple(out[name].shape) == (2, 12, -(-96 // stride), -(-128 // stride))
        assert fpn.output_shape()[name] == ShapeSpec(channels=12, stride=stride)
    top = fpn.top_block
    p6 = F.conv2d(out["p5"], top.p6.weight, top.p6.bias, stride=2, padding=1)
    p7 = F.conv2d(p6.relu(), top.p7.weight, top.p7.bias, stride=2, padding=1)
    torch.testing.assert_close(out["p6"], p6)
    torch.testing.assert_close(out["p7"], p7)


def test_top_down_path_is_nearest_without_norm():
    fpn, x = pyramid().eval(), image()
    features, out = fpn.bottom_up(x), fpn(x)
    top = fpn.fpn_lateral5(features["res5"])
    merged = fpn.fpn_lateral4(features["res4"]) + top.repeat_interleave(2, 2).repeat_interleave(
        2, 3
    )
    torch.testing.assert_close(out["p4"], fpn.fpn_output4(merged))
    for module in (fpn.fpn_lateral3, fpn.fpn_output3):
        assert module.norm is None and module.activation is None and module.bias is not None


def test_drop_block_acts_in_training_on_p3_and_p4_only():
    plain, dropping = pyramid(), pyramid(drop_block=0.5)
    assert plain.state_dict().keys() == dropping.state_dict().keys()
    x = image()
    expected = plain.eval()(x)
    evaluated, trained = dropping.eval()(x), dropping.train()(x)
    for name in LEVELS:
        assert torch.equal(evaluated[name], expected[name])
        assert torch.equal(trained[name], expected[name]) == (name not in ("p3", "p4")), name
    again = dropping.eval()(x)
    assert all(torch.equal(again[name], expected[name]) for name in LEVELS)


def test_drop_block_drops_the_share_it_is_told(monkeypatch):
    """The input of P3's convolution: a share of zeros, the rest scaled up."""
    dropping = pyramid(drop_block=0.3).train()
    seen = []
    dropping.fpn_output3.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.manual_seed(2)
    dropping(image(256, 256))
    share = (seen[0] == 0).float().mean().item()
    # DropBlock's probability is a target; blocks of 3 x 3 overlap and keep off the border.
    assert 0.15 < share < 0.35


def test_pyramid_with_drop_block_can_be_pickled_and_copied():
    fpn, x = pyramid(drop_block=0.5), image()
    expected = fpn.eval()(x)
    for twin in (copy.deepcopy(fpn), pickle.loads(pickle.dumps(fpn))):
        assert all(torch.equal(twin.eval()(x)[name], expected[name]) for name in LEVELS)
        assert not torch.equal(twin.train()(x)["p3"], expected["p3"])


def resnet50():
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm="FrozenBN"),
        out_features=["res3", "res4", "res5"],
    ), ("res3", "res4", "res5")


def regnet():
    return L(RegNet)(
        stem_class=SimpleStem, stem_width=8, block_class=ResBottleneckBlock,
        depth=6, w_a=8.0, w_0=8, w_m=2.0, group_width=4, norm="FrozenBN",
        out_features=["s2", "s3", "s4"],
    ), ("s2", "s3", "s4")  # fmt: skip


@pytest.mark.parametrize("build", [resnet50, regnet])
def test_detectron2_backbones_by_config_alone(build):
    """The bottom-up network is replaced in the LazyConfig; one training step."""
    config = tiny_config()
    config.backbone.bottom_up, config.backbone.in_features = build()
    torch.manual_seed(0)
    model = instantiate(config).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = model([tiny_input()])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    first = next(p for p in model.backbone.bottom_up.parameters() if p.requires_grad)
    assert first.grad.isfinite().all() and first.grad.any()
    before = first.detach().clone()
    optimizer.step()
    assert not torch.equal(first, before)


@pytest.fixture
def yacs_config(tmp_path):
    """A yacs config that names the tiny model's LazyConfig."""
    path = tmp_path / "tiny_model.py"
    path.write_text("from tests.support.tiny import tiny_config\n\nmodel = tiny_config()\n")
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.GLIP.CONFIG = str(path)
    cfg.MODEL.BACKBONE.NAME = "build_glip_backbone"
    return cfg


def test_backbone_through_yacs(yacs_config):
    backbone = build_backbone(yacs_config)
    assert isinstance(backbone.bottom_up, SwinBackbone)
    assert [backbone.output_shape()[name].stride for name in LEVELS] == [8, 16, 32, 64, 128]
    out = backbone(image(64, 64))
    assert tuple(out) == LEVELS and out["p3"].shape == (2, 32, 8, 8)


def test_stock_retinanet_on_the_backbone(yacs_config):
    cfg = yacs_config
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RETINANET.IN_FEATURES = list(LEVELS)
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    torch.manual_seed(0)
    with EventStorage():
        losses = build_model(cfg).train()([tiny_input()])
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    assert all(loss.isfinite() for loss in losses.values())


def test_the_top_levels_stay_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        out = pyramid()(image(64, 64))  # P6 is 1x1: PyTorch's bf16 gradient of P7 is wrong there
    assert [out[name].dtype for name in LEVELS] == [torch.bfloat16] * 3 + [torch.float32] * 2
