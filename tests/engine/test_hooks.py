"""The hooks of a training run."""

from types import SimpleNamespace

import pytest
import torch

from glipv2_d2.engine.hooks import WeightDecayStepHook


def decays(steps, iterations, max_iter=100, optimizer=None):
    """The weight decay of two groups at each of `iterations`."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    if optimizer is None:
        groups = [{"params": [w], "weight_decay": d} for w, d in zip(weights, (0.01, 0.0))]
        optimizer = torch.optim.AdamW(groups)
    hook, seen = WeightDecayStepHook(steps), []
    for iteration in iterations:
        hook.trainer = SimpleNamespace(optimizer=optimizer, iter=iteration, max_iter=max_iter)
        hook.before_step()
        seen.append([group["weight_decay"] for group in optimizer.param_groups])
    return seen, optimizer


def test_weight_decay_falls_at_the_steps():
    seen, _ = decays((0.4, 0.6), (0, 39, 40, 59, 60, 99))
    assert [d for d, _ in seen] == pytest.approx([0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4])
    assert not any(d for _, d in seen)


def test_a_resumed_run_does_not_drop_it_twice():
    _, optimizer = decays((0.4,), (0, 50))
    state = optimizer.state_dict()
    _, resumed = decays((0.4,), ())
    resumed.load_state_dict(state)
    seen, _ = decays((0.4,), (51,), optimizer=resumed)
    assert seen[0] == pytest.approx([0.001, 0.0])


def test_steps_must_rise():
    with pytest.raises(ValueError, match="must rise within"):
        WeightDecayStepHook((0.6, 0.4))
