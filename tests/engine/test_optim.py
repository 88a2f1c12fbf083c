"""Parameter groups, clipping, and two optimizers as one."""

import io
import math

import pytest
import torch
from detectron2.config import LazyCall as L
from torch import nn

from glipv2_d2.engine.freezing import freeze_all_but
from glipv2_d2.engine.optim import (
    AdamWAndSGD,
    GradientClipper,
    build_optimizer,
    get_glip_optimizer_params,
)
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import ConfigError
from tests.support.two_processes import TwoLosses, batch


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.language_backbone = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))
        self.backbone_extra = nn.Linear(2, 2)
        self.backbone.relative_position_bias_table = nn.Parameter(torch.zeros(3))


def settings(model, **options):
    options = {"base_lr": 1.0, "weight_decay": 0.1, **options}
    groups = get_glip_optimizer_params(model, **options)
    by_id = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    return {n: by_id[id(p)] for n, p in model.named_parameters() if id(p) in by_id}, groups


def test_official_recipe():
    found, groups = settings(
        Toy(), lr_by_prefix={"language_backbone": 0.01}, weight_decay_bias=0.0, bias_lr_factor=2.0
    )
    assert found["backbone.0.weight"] == (1.0, 0.1)
    assert found["backbone.0.bias"] == (2.0, 0.0)
    assert found["backbone.1.weight"] == (1.0, 0.1)  # norms decay
    assert found["backbone.1.bias"] == (2.0, 0.0)
    assert found["backbone.relative_position_bias_table"] == (2.0, 0.0)
    assert found["language_backbone.0.weight"] == (0.01, 0.1)
    assert found["language_backbone.1.bias"] == (0.02, 0.0)
    assert len(groups) == 4


def test_norms_without_decay_and_longest_prefix():
    prefixes = {"backbone": 0.5, "backbone.1": 2.0}
    found, _ = settings(Toy(), weight_decay_norm=0.0, lr_by_prefix=prefixes)
    assert found["backbone.1.weight"] == (2.0, 0.0)
    assert found["backbone.0.weight"] == (0.5, 0.1)
    assert found["backbone_extra.weight"] == (1.0, 0.1)  # "backbone" is a name, not a letter count


def test_frozen_and_shared_parameters():
    model = Toy()
    model.language_backbone.requires_grad_(False)
    model.again = model.backbone_extra
    found, groups = settings(model)
    assert not any(name.startswith("language_backbone") for name in found)
    assert sum(len(g["params"]) for g in groups) == 7
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="everything is frozen"):
        settings(model)


def test_a_prefix_that_fits_nothing_is_an_error():
    with pytest.raises(ValueError, match="'languagebackbone'.*language_backbone"):
        settings(Toy(), lr_by_prefix={"languagebackbone": 0.1})


def test_overrides_hold_for_all_of_a_part():
    tower = {"lr": 0.3, "weight_decay": 0.4, "sgd": True}
    _, groups = settings(Toy(), bias_lr_factor=2.0, overrides={"backbone": tower})
    (group,) = [group for group in groups if group.get("sgd")]
    assert {**group, "params": len(group["params"])} == {**tower, "params": 5}
    assert {g["lr"] for g in groups if g is not group} == {1.0, 2.0}
    with pytest.raises(ValueError, match="overrides names 'tower'"):
        settings(Toy(), overrides={"tower": {}})


SGD = {"lr": 0.05, "weight_decay": 0.01, "sgd": True}


def both(model, **options):
    groups = get_glip_optimizer_params(
        model, base_lr=0.01, weight_decay=0.1, bias_lr_factor=2.0, overrides={"backbone": SGD}
    )
    return AdamWAndSGD(groups, lr=0.01, momentum=0.9, **options)


def train(model, optimizers, schedulers, steps, seed=0):
    """Some steps under a gradient scaler, whose losses depend on nothing but the seed."""
    generator = torch.Generator().manual_seed(seed)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(steps):
        loss = sum(
            (p * torch.randn(p.shape, generator=generator)).sum() for p in model.parameters()
        )
        for optimizer in optimizers:
            optimizer.zero_grad()
        scaler.scale(loss.square()).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)
        for scheduler in schedulers:
            scheduler.step()
        scaler.update()


def assert_equal(model, expected):
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


def halved(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def test_two_optimizers_in_one_step_as_apart():
    together, apart = Toy(), Toy()
    apart.load_state_dict(together.state_dict())
    one = both(together)
    groups = get_glip_optimizer_params(
        apart, base_lr=0.01, weight_decay=0.1, bias_lr_factor=2.0, overrides={"backbone": SGD}
    )
    adamw = torch.optim.AdamW([g for g in groups if not g.get("sgd")])
    sgd = torch.optim.SGD([g for g in groups if g.get("sgd")], momentum=0.9)
    train(together, [one], [halved(one)], steps=4)
    train(apart, [adamw, sgd], [halved(adamw), halved(sgd)], steps=4)
    assert_equal(together, apart)


def test_two_optimizers_resume_exactly():
    model = Toy()
    optimizer = both(model)
    train(model, [optimizer], [halved(optimizer)], steps=2)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(model, [optimizer], [], steps=2, seed=1)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Toy()
    resumed.load_state_dict(saved["model"])
    again = both(resumed)
    again.load_state_dict(saved["optimizer"])
    train(resumed, [again], [], steps=2, seed=1)
    assert_equal(resumed, model)
    saved["optimizer"]["param_groups"].reverse()
    with pytest.raises(ValueError, match="of other groups for AdamW and SGD"):
        both(Toy()).load_state_dict(saved["optimizer"])


@pytest.mark.parametrize("part", ["language_backbone", "backbone"])
def test_of_two_optimizers_one_is_alone_where_only_its_parts_are_trained(part):
    together, apart = Toy(), Toy()
    apart.load_state_dict(together.state_dict())
    for model in (together, apart):
        freeze_all_but(model, [part])
    one = both(together)
    groups = get_glip_optimizer_params(
        apart, base_lr=0.01, weight_decay=0.1, bias_lr_factor=2.0, overrides={"backbone": SGD}
    )
    alone = (
        torch.optim.SGD(groups, momentum=0.9) if part == "backbone" else torch.optim.AdamW(groups)
    )
    train(together, [one], [halved(one)], steps=2)
    train(apart, [alone], [halved(alone)], steps=2)
    assert_equal(together, apart)


def test_clipping_is_over_the_full_model():
    model = nn.ModuleList([nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)])
    optimizer = torch.optim.SGD([{"params": [m.weight]} for m in model], lr=0.0)
    clipper = GradientClipper(optimizer, max_norm=1.0)
    model[0].weight.grad, model[1].weight.grad = torch.tensor([[3.0]]), torch.tensor([[4.0]])
    optimizer.step()
    assert clipper.last_norm == pytest.approx(5.0)
    assert model[0].weight.grad.item() == pytest.approx(0.6, abs=1e-4)
    assert model[1].weight.grad.item() == pytest.approx(0.8, abs=1e-4)


def test_clipping_acts_on_unscaled_gradients():
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    clipper = GradientClipper(optimizer, max_norm=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((3 * weight).sum()).backward()
    scaler.step(optimizer)
    assert clipper.last_norm == pytest.approx(3.0)
    assert weight.item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("scaled", [False, True])
def test_fused_optimizers_are_clipped_at_the_same_norm(scaled):
    def step(fused, scale):
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        # An epsilon this large makes the step depend on the gradient's size.
        optimizer = torch.optim.AdamW([weight], lr=0.1, eps=1.0, fused=fused)
        clipper = GradientClipper(optimizer, max_norm=1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scale)
        scaler.scale((weight * torch.tensor([3.0, 4.0])).sum()).backward()
        scaler.step(optimizer)
        return weight.detach(), clipper.last_norm

    plain, norm = step(fused=False, scale=False)
    fused, fused_norm = step(fused=True, scale=scaled)
    assert norm == fused_norm == pytest.approx(5.0)
    # The same formula in another order: float32 rounding of numbers around 1.
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-6)


def test_nonfinite_gradient_is_reported_and_zero_means_no_clipping():
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    seen = []
    GradientClipper(optimizer, max_norm=0.0, on_nonfinite=seen.append)
    weight.grad = torch.tensor([10.0])
    optimizer.step()
    assert weight.grad.item() == 10.0 and not seen
    weight.grad = torch.tensor([float("nan")])
    optimizer.step()
    assert len(seen) == 1 and math.isnan(seen[0])


def test_what_cannot_be_fused_is_one_error():
    """On this machine everything can, so with another switch that excludes it."""
    config = L(torch.optim.AdamW)(params=[torch.zeros(1)], fused=True, foreach=True)
    with pytest.raises(
        ConfigError, match="optimizer.fused=True is not possible here: .*fused=null"
    ):
        build_optimizer(config)
    config.foreach = None
    assert build_optimizer(config).param_groups[0]["fused"] is True


@pytest.mark.parametrize("precision", [None, "fp16"])
def test_a_fused_training_is_the_same(precision):
    """Under clipping and a gradient scaler, on CPU."""
    results = []
    for fused in (None, True):
        model = TwoLosses()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
        GLIPTrainer(model, [batch(i, 4) for i in range(4)], optimizer, 0.1, precision).train(0, 4)
        results.append(model.linear.weight.detach())
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-5)  # one kernel rounds otherwise
