"""CLIP's image towers against open_clip's, on generated weights in OpenAI's layout."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from detectron2.modeling import BACKBONE_REGISTRY
from safetensors.torch import save_file
from torch import nn

from glipv2_d2.config import get_config
from glipv2_d2.errors import CheckpointError
from glipv2_d2.modeling.backbone import (
    ClipImageEncoder,
    ClipResNetBackbone,
    ClipViTBackbone,
    build_fpn,
)
from tests.support.tiny import tiny_config, tiny_input
from tests.support.tiny_cloc import tiny_cloc

# The smallest ones with timm's and open_clip's sizes, so that no test takes long.
VIT, VIT_SIZES = "vit_xsmall_patch16_clip_224", {"width": 256, "layers": 10, "heads": 4}


def randomized(model, seed=0):
    torch.manual_seed(seed)
    for name, value in model.named_parameters():
        if value.ndim < 2:  # start at 0 and 1, which hides mistakes
            nn.init.normal_(value, mean=float(name.endswith("weight")), std=0.1)
    for name, value in model.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return model.eval()


def open_clip_vit(**options):
    sizes = {"image_size": 224, "patch_size": 16, "mlp_ratio": 4.0, **VIT_SIZES, **options}
    module = pytest.importorskip("open_clip.transformer")
    return randomized(module.VisionTransformer(**sizes, output_dim=8, output_tokens=True))


def open_clip_resnet(layers=(3, 4, 6, 3)):
    module = pytest.importorskip("open_clip.modified_resnet")
    return randomized(module.ModifiedResNet(layers, output_dim=8, heads=32))


def openai_file(folder, tower, name="clip.pth"):
    """The state dict of a whole CLIP: the tower's weights as "visual.*", in half precision."""
    state = {f"visual.{n}": v.half() for n, v in tower.state_dict().items()}
    state |= {"logit_scale": torch.tensor(4.6), "ln_final.weight": torch.ones(8)}
    torch.save(state, folder / name)
    tower.load_state_dict({n.removeprefix("visual."): v for n, v in state.items()}, strict=False)
    return str(folder / name)


def image(height, width, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_resnet_equals_open_clip(tmp_path):
    theirs = open_clip_resnet()
    ours = ClipResNetBackbone(pretrained=openai_file(tmp_path, theirs)).train()
    x = image(96, 160)
    y = theirs.layer1(theirs.stem(x))
    actual = ours(x)
    for name, layer in (
        ("res3", theirs.layer2),
        ("res4", theirs.layer3),
        ("res5", theirs.layer4),
    ):
        y = layer(y)
        # 16 blocks of convolutions, batch norm folded in another order; relative to the largest.
        torch.testing.assert_close(actual[name], y, atol=1e-5 * y.abs().max().item(), rtol=1e-4)
        spec = ours.output_shape()[name]
        assert (spec.channels, spec.stride) == (y.shape[1], 96 // y.shape[2])
    assert not [n for n, _ in ours.named_parameters() if "head" in n or "attnpool" in n]


@torch.no_grad()
def test_vit_equals_open_clip_at_its_own_size(tmp_path):
    theirs = open_clip_vit()
    ours = ClipViTBackbone(name=VIT, pretrained=openai_file(tmp_path, theirs)).eval()
    x = image(224, 224, batch=1)
    _, tokens = theirs(x)
    expected = tokens.unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    # Ten blocks in float32 with another order of sums; values up to some 5.
    torch.testing.assert_close(ours(x)["res4"], expected, atol=1e-4, rtol=1e-4)


def test_the_tower_of_openai_has_its_activation():
    """Radford et al. trained with x sigmoid(1.702 x), OpenCLIP's models with GELU."""
    x = torch.linspace(-4, 4, 33)
    for name, expected in (
        ("vit_base_patch16_clip_quickgelu_224", x * torch.sigmoid(1.702 * x)),
        ("vit_base_patch16_clip_224", F.gelu(x)),
    ):
        with torch.device("meta"):
            blocks = ClipViTBackbone(name=name).trunk.blocks
        for block in blocks:
            torch.testing.assert_close(block.mlp.act(x), expected)


@torch.no_grad()
def test_position_embeddings_follow_the_size_of_the_image(tmp_path):
    native, wide = open_clip_vit(), open_clip_vit(image_size=(128, 320))
    ours = ClipViTBackbone(name=VIT, pretrained=openai_file(tmp_path, native)).eval()
    state = native.state_dict()
    positions = state["positional_embedding"]
    grid = positions[1:].unflatten(0, (14, 14)).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, (8, 20), mode="bicubic", antialias=True, align_corners=False)
    grid = grid[0].flatten(1).T
    wide.load_state_dict({**state, "positional_embedding": torch.cat([positions[:1], grid])})
    x = image(128, 320)
    expected = wide(x)[1].unflatten(1, (8, 20)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x)["res4"], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_other_layouts_hold_the_same_weights(tmp_path):
    tower = open_clip_vit()
    reference = ClipViTBackbone(name=VIT, pretrained=openai_file(tmp_path, tower)).trunk
    expected = reference.state_dict()
    files = {
        "alone": tower.state_dict(),  # clip.visual.state_dict()
        "timm": {**expected, "head.weight": torch.zeros(3, 256), "head.bias": torch.zeros(3)},
        "open_clip": {f"visual.trunk.{n}": v for n, v in expected.items()},
    }
    for name, state in files.items():
        path = str(tmp_path / f"{name}.safetensors")
        save_file({n: v.contiguous() for n, v in state.items()}, path)
        loaded = ClipViTBackbone(name=VIT, pretrained=path).trunk.state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[n], expected[n]) for n in expected), name


def test_weights_of_another_tower_are_refused(tmp_path):
    narrow = openai_file(tmp_path, open_clip_vit(width=128), "narrow.pth")
    patches = openai_file(tmp_path, open_clip_vit(patch_size=32), "patches.pth")
    larger = openai_file(tmp_path, open_clip_resnet((3, 4, 7, 3)), "larger.pth")
    smaller = openai_file(tmp_path, open_clip_resnet((3, 4, 5, 3)), "smaller.pth")
    remedy = r".*set `name` to the timm model of these weights"
    with pytest.raises(CheckpointError, match=r"\(1, 1, 128\) in the file.*\(1, 1, 256\)" + remedy):
        ClipViTBackbone(name=VIT, pretrained=narrow)
    with pytest.raises(CheckpointError, match=r"patch_embed.proj.weight: \(256, 3, 32, 32\)"):
        ClipViTBackbone(name=VIT, pretrained=patches)
    with pytest.raises(CheckpointError, match="larger model.*stages.2.6" + remedy):
        ClipResNetBackbone(pretrained=larger)
    with pytest.raises(CheckpointError, match="not hold all weights.*stages.2.5" + remedy):
        ClipResNetBackbone(pretrained=smaller)
    with pytest.raises(CheckpointError, match=r"\(32, 3, 3, 3\) in the file" + remedy):
        ClipViTBackbone(name=VIT, pretrained=smaller)


def test_unknown_names():
    with pytest.raises(ValueError, match="'resnet50' is none of timm's CLIP towers.*resnet50_clip"):
        ClipResNetBackbone(name="resnet50")
    with pytest.raises(ValueError, match="'p3'.*res2"):
        ClipViTBackbone(name=VIT, out_features=("p3",))
    with torch.device("meta"), pytest.raises(ValueError, match="patches of 14 pixels"):
        ClipViTBackbone(name="vit_large_patch14_clip_224")


ALL = ("res2", "res3", "res4", "res5")


@pytest.mark.parametrize("height, width", [(64, 96), (33, 70), (1, 1)])
@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (lambda: ClipResNetBackbone(out_features=ALL), (256, 512, 1024, 2048)),
        (lambda: ClipViTBackbone(name=VIT, out_features=ALL), (64, 128, 256, 256)),
        (
            lambda: ClipViTBackbone(name="vit_medium_patch32_clip_224", out_features=ALL),
            (64, 128, 256, 512),
        ),
    ],
    ids=["resnet", "patch16", "patch32"],
)
@torch.no_grad()
def test_shapes_at_any_size(build, channels, height, width):
    """Maps cover the image padded to multiples of 32, so that the FPN's sums fit."""
    model = build().eval()
    outputs = model(image(height, width))
    assert tuple(outputs) == tuple(model.output_shape()) == ALL
    for name, count, stride in zip(ALL, channels, (4, 8, 16, 32)):
        spec = model.output_shape()[name]
        assert (spec.channels, spec.stride) == (count, stride)
        padded = [-(-size // 32) * 32 // stride for size in (height, width)]
        assert list(outputs[name].shape) == [2, count, *padded]
    levels = build_fpn(model, out_channels=8)(image(height, width))
    assert [out.shape[-1] for out in levels.values()][:3] == [
        -(-width // 32) * 32 // stride for stride in (8, 16, 32)
    ]


def test_scales_of_the_vit_are_rescaled_patches():
    model = ClipViTBackbone(name=VIT).eval()
    out = model(image(64, 64))
    assert torch.equal(out["res5"], F.max_pool2d(out["res4"], 2))
    (up,) = model.pyramid["res3"]
    first = torch.einsum("bc,cdij->bdij", out["res4"][..., 1, 0], up.weight)
    first = first + up.bias[:, None, None]
    torch.testing.assert_close(out["res3"][..., 2:4, 0:2], first, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("build", [ClipResNetBackbone, lambda **o: ClipViTBackbone(name=VIT, **o)])
def test_checkpointing_gives_identical_gradients(build):
    results = []
    for use_checkpoint in (False, True):
        torch.manual_seed(0)
        model = build(use_checkpoint=use_checkpoint).train()
        sum(out.square().mean() for out in model(image(32, 64)).values()).backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in results[0].items():
        assert gradient is not None, name
        assert torch.equal(gradient, results[1][name]), name


def test_freezing():
    with torch.device("meta"):
        resnet = ClipResNetBackbone(frozen_stages=1)
        vit = ClipViTBackbone(name=VIT, frozen_blocks=2)
    parts = {".".join(n.split(".")[1:3]) for n, p in resnet.named_parameters() if p.requires_grad}
    assert parts == {"stages.1", "stages.2", "stages.3"}
    frozen = {".".join(n.split(".")[1:3]) for n, p in vit.named_parameters() if not p.requires_grad}
    assert frozen == {
        "cls_token", "pos_embed", "patch_embed.proj", "norm_pre.weight", "norm_pre.bias",
        "blocks.0", "blocks.1",
    }  # fmt: skip
    assert not [m for m in resnet.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["glip_clip_resnet50", "glip_clip_vit_b16"])
def test_configs_normalize_as_clip_does(name):
    """CLIP's preprocessing: RGB from 0 to 1, less this mean, over this deviation."""
    model = get_config(f"common/models/{name}.py").model
    assert model.input_format == "RGB"
    assert list(model.pixel_mean) == pytest.approx([122.7709, 116.7460, 104.0937], abs=1e-4)
    assert list(model.pixel_std) == pytest.approx([68.5005, 66.6322, 70.3232], abs=1e-4)
    with torch.device("meta"):
        backbone = instantiate(model.backbone)
    assert [s.stride for s in backbone.output_shape().values()] == [8, 16, 32, 64, 128]


def test_a_training_step():
    recipe = get_config("pretrain/glip_clip.py")
    config = tiny_config()
    config.backbone.bottom_up = recipe.model.backbone.bottom_up
    torch.manual_seed(0)
    model = instantiate(config).train()
    losses = model([tiny_input()])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in model.backbone.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_registered_with_detectron2():
    assert BACKBONE_REGISTRY.get("ClipResNetBackbone") is ClipResNetBackbone
    assert BACKBONE_REGISTRY.get("ClipViTBackbone") is ClipViTBackbone


@torch.no_grad()
def test_the_whole_encoder_equals_open_clip(tmp_path):
    """The tokens after the last LayerNorm, and the class token through the projection."""
    theirs = open_clip_vit()
    ours = ClipImageEncoder(
        name=VIT, embed_channels=8, pretrained=openai_file(tmp_path, theirs)
    ).eval()
    theirs.proj.copy_(ours.trunk.head.weight.T)  # starts anew, as it is not of this space
    x = image(224, 224)
    pooled, tokens = theirs(x)
    found, embedded = ours(x)
    # As for the backbone: ten blocks, attention in another order.
    torch.testing.assert_close(found, tokens, atol=1e-5 * tokens.abs().max().item(), rtol=1e-4)
    torch.testing.assert_close(embedded - ours.trunk.head.bias, pooled, atol=1e-4, rtol=1e-4)
    assert ours.grid_size == (14, 14)


def test_the_whole_encoder_of_another_size_of_image_and_of_tower(tmp_path):
    """Positions are interpolated; another tower is refused with what can be done."""
    file = openai_file(tmp_path, open_clip_vit())
    larger = ClipImageEncoder(name=VIT, image_size=256, pretrained=file)
    assert larger.trunk.pos_embed.shape == (1, 1 + 256, VIT_SIZES["width"])
    message = "weights of another size of model.*set `name` to the timm model of these weights"
    with pytest.raises(CheckpointError, match=message):
        ClipImageEncoder(name="vit_medium_patch16_clip_224", pretrained=file)


def test_a_backbone_starts_from_the_tower_of_a_cloc(tmp_path):
    """Its checkpoint has the names of an OpenCLIP around a timm model; its positions are
    interpolated, and what is not of the trunk stays out."""
    sizes = "{embed_dim: 256, depth: 10, num_heads: 4, patch_size: 16}"
    model = tiny_cloc(**{"visual.sizes": sizes})
    torch.save({"model": model.state_dict()}, tmp_path / "cloc.pth")
    backbone = ClipViTBackbone(name=VIT, pretrained=str(tmp_path / "cloc.pth"))
    theirs = model.visual.trunk.state_dict()
    for name, value in backbone.trunk.state_dict().items():
        if name != "pos_embed":
            assert torch.equal(value, theirs[name]), name
    assert torch.equal(backbone.trunk.pos_embed[:, 0], theirs["pos_embed"][:, 0])
