"""Learning rates over the course of a training."""

import pytest

from glipv2_d2.engine.schedule import warmup_cosine, warmup_multi_step


def test_multi_step_schedule():
    schedule = warmup_multi_step(max_iter=1000, steps=(0.67, 0.89), warmup_iters=100)
    assert schedule(0.0) == pytest.approx(0.001)
    assert schedule(0.05) == pytest.approx(0.5, abs=0.01)
    assert schedule(0.669) == pytest.approx(1.0)
    assert schedule(0.671) == pytest.approx(0.1)
    assert schedule(0.95) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="steps"):
        warmup_multi_step(max_iter=10, steps=(0.9, 0.5))


def test_cosine_and_a_run_shorter_than_its_warmup():
    schedule = warmup_cosine(max_iter=20, warmup_iters=2000, end_factor=0.1)
    values = [schedule(i / 20) for i in range(20)]
    assert values[0] < 0.01 and max(values) == values[10]
    assert warmup_cosine(max_iter=1)(0.0) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="max_iter"):
        warmup_cosine(max_iter=0)
