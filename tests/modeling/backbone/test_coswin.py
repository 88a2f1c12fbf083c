"""CoSwinBackbone: the convolutional embeddings against plain Swin's, and CoSwin-H's size."""

import pytest
import torch
from detectron2.config import instantiate
from timm.models.swin_transformer import PatchMerging
from torch import nn

from glipv2_d2.config import get_config
from glipv2_d2.modeling.backbone import CoSwinBackbone, SwinBackbone

NAMES = ("res2", "res3", "res4", "res5")
DIMENSIONS = {
    "embed_dim": 8,
    "depths": (2, 1, 2, 1),
    "num_heads": (1, 2, 2, 4),
    "window_size": 4,
    "drop_path_rate": 0.0,
    "out_features": NAMES,
}


def randomized(model):
    for parameter in model.parameters():  # norms start at 0 and 1, which hides mistakes
        nn.init.normal_(parameter, std=0.3)
    return model


def coswin(seed=0, **options):
    torch.manual_seed(seed)
    return randomized(CoSwinBackbone(**{**DIMENSIONS, **options}))


def image(height, width, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


def arrange_as_patches(embed, weight, bias):
    """Kernel zero but for the pixels of one patch; `weight` (C', C, stride, stride)."""
    stride = weight.shape[-1]
    with torch.no_grad():
        embed.proj.weight.zero_()
        start = embed.proj.padding[0]
        embed.proj.weight[..., start : start + stride, start : start + stride] = weight
        embed.proj.bias.copy_(bias)


class MergeThenNorm(nn.Module):
    """timm's patch merging with the norm behind the projection, where CvT has it."""

    def __init__(self, merging: PatchMerging, norm: nn.LayerNorm):
        super().__init__()
        merging.norm = nn.Identity()
        self.merging, self.norm = merging, norm

    def forward(self, x):
        return self.norm(self.merging(x))


@pytest.mark.parametrize("height, width", [(64, 96), (33, 47), (101, 58)])
def test_kernels_arranged_as_patches_give_the_plain_swin(height, width):
    ours = coswin().eval()
    torch.manual_seed(1)
    plain = randomized(SwinBackbone(**DIMENSIONS)).eval()
    shared = {n: p for n, p in ours.state_dict().items() if "downsample" not in n}
    shared = {n: p for n, p in shared.items() if n != "patch_embed.proj.weight"}
    plain.load_state_dict(shared, strict=False)
    arrange_as_patches(ours.patch_embed, plain.patch_embed.proj.weight, plain.patch_embed.proj.bias)
    for stage, plain_stage in zip(ours.stages[:-1], plain.stages):
        # timm orders the inputs of the projection by column, row, channel.
        weight = plain_stage.downsample.reduction.weight
        weight = weight.unflatten(1, (2, 2, -1)).permute(0, 3, 2, 1)
        arrange_as_patches(stage.downsample, weight, torch.zeros(len(weight)))
        plain_stage.downsample = MergeThenNorm(plain_stage.downsample, stage.downsample.norm)
    x = image(height, width)
    actual, expected = ours(x), plain(x)
    for name in NAMES:
        # Sums of at most 256 terms of size 1 in another order, through six blocks.
        torch.testing.assert_close(actual[name], expected[name], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("height, width", [(33, 47), (1, 1), (31, 130), (64, 64), (800, 5)])
def test_any_size_works(height, width):
    model = coswin().eval()
    with torch.no_grad():
        outputs = model(image(height, width))
    for i, (name, spec) in enumerate(model.output_shape().items()):
        stride = 4 * 2**i
        assert (name, spec.channels, spec.stride) == (NAMES[i], 8 * 2**i, stride)
        assert outputs[name].shape == (2, 8 * 2**i, -(-height // stride), -(-width // stride))
        assert outputs[name].isfinite().all()


def test_embeddings_overlap():
    """The second position sees pixels 2 to 8: two before its patch, one after."""
    embed, x = coswin().patch_embed, image(16, 16, batch=1)
    before = embed(x)
    for column, changes in ((1, False), (2, True), (8, True), (9, False)):
        changed = x.clone()
        changed[..., column] += 1
        assert torch.equal(embed(changed)[:, :, 1], before[:, :, 1]) != changes


def test_checkpointing_gives_identical_gradients():
    results = []
    for use_checkpoint in (False, True):
        model = coswin(use_checkpoint=use_checkpoint).train()
        sum(out.square().mean() for out in model(image(40, 56)).values()).backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in results[0].items():
        assert gradient is not None, name
        assert torch.equal(gradient, results[1][name]), name


@pytest.mark.parametrize("frozen", [-1, 0, 2])
def test_frozen_stages_include_their_embeddings(frozen):
    model = coswin(frozen_stages=frozen, drop_path_rate=0.5)
    for i, part in enumerate([model.patch_embed, *model.stages]):
        is_frozen = i <= frozen
        assert all(p.requires_grad != is_frozen for p in part.parameters()), i
        assert all(m.training != is_frozen for m in model.train() and part.modules()), i


def test_pretrained_weights_of_the_official_layout(tmp_path):
    source = coswin()
    state = {n.replace("stages.", "layers."): p for n, p in source.state_dict().items()}
    state = {n: p for n, p in state.items() if not n.startswith("out_norms")}
    torch.save({"model": {**state, "head.weight": torch.zeros(3)}}, tmp_path / "coswin.pth")
    loaded = CoSwinBackbone(**DIMENSIONS, pretrained=str(tmp_path / "coswin.pth"))
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]) or name.startswith("out_norms"), name


def test_size_of_coswin_h():
    """Florence, Section 2.3: CoSwin-H has 637 million parameters."""
    node = get_config("common/models/glipv2_coswin_h.py").model.backbone
    with torch.device("meta"):
        model = instantiate(node)
    count = sum(p.numel() for p in model.bottom_up.parameters())
    assert count == pytest.approx(637e6, rel=0.01)
    assert [s.stride for s in model.output_shape().values()] == [8, 16, 32, 64, 128]
