"""The training step on a toy model: precisions, what is logged, and where it ends."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from glipv2_d2.compat import PRECISIONS
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import ConfigError
from tests.support.two_processes import TwoLosses, batch


def toy_trainer(precision):
    model = TwoLosses()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return GLIPTrainer(model, [batch(1, 4)] * 3, optimizer, precision=precision)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [(None, torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_a_step_on_cpu(precision, dtype):
    trainer = toy_trainer(precision)
    before = trainer.model.linear.weight.detach().clone()
    with EventStorage(0) as storage:
        trainer.storage = storage
        trainer.run_step()
        assert {"loss_a", "loss_b", "total_loss", "data_time"} <= set(storage.latest())
    assert trainer.model.seen_dtype == dtype
    reference = TwoLosses()
    sum(reference(batch(1, 4)).values()).backward()
    expected = before - 0.1 * reference.linear.weight.grad
    torch.testing.assert_close(trainer.model.linear.weight.detach(), expected, atol=2e-3, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_trains_on_gpu(precision):
    model = TwoLosses().cuda()
    before = model.linear.weight.detach().clone()
    data = [[{"x": item["x"].cuda()} for item in batch(1, 4)]] * 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    GLIPTrainer(model, data, optimizer, precision=precision).train(0, 3)
    assert model.seen_dtype == PRECISIONS[precision]
    assert not torch.equal(model.linear.weight, before)


def test_it_trains_to_the_end_through_stock_loop():
    trainer = toy_trainer("bf16")
    trainer.train(0, 3)
    assert trainer.iter == 3


def test_clipping_sees_unscaled_gradients():
    trainer = toy_trainer("fp16")
    norms = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *args, **kwargs: (
        norms.append(trainer.model.linear.weight.grad.norm().item()),
        step(*args, **kwargs),
    )
    with EventStorage(0) as storage:
        trainer.storage = storage
        trainer.run_step()
    reference = TwoLosses()
    sum(reference(batch(1, 4)).values()).backward()
    assert norms == [pytest.approx(reference.linear.weight.grad.norm().item(), rel=1e-2)]


def test_state_survives_a_change_of_precision():
    saved = toy_trainer("fp16")
    saved.iter = 5
    state = saved.state_dict()
    assert state["grad_scaler"]["scale"] > 0
    for precision in (None, *PRECISIONS):
        resumed = toy_trainer(precision)
        resumed.iter = 0
        resumed.load_state_dict(state)
        assert resumed.iter == 5
    other = toy_trainer("fp16")
    other.load_state_dict({**state, "grad_scaler": {}})


def test_unknown_precision():
    with pytest.raises(ConfigError, match="train.amp.precision must .*, got 'fp8'"):
        toy_trainer("fp8")


def test_a_loss_that_nothing_trained_contributes_to_is_logged_beside_the_sum():
    trainer = toy_trainer(None)
    other = {"loss_frozen": torch.tensor(5.0)}
    trainer.model.forward = lambda inputs: {**TwoLosses.forward(trainer.model, inputs), **other}
    trainer.train(0, 1)
    logged = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert logged["loss_frozen"] == 5
    assert logged["total_loss"] == pytest.approx(logged["loss_a"] + logged["loss_b"])


def test_a_model_may_return_its_sum_alone():
    trainer = toy_trainer(None)
    trainer.model.forward = lambda inputs: sum(TwoLosses.forward(trainer.model, inputs).values())
    trainer.train(0, 1)
    expected = sum(TwoLosses()(batch(1, 4)).values())
    assert trainer.storage.latest()["total_loss"][0] == pytest.approx(expected.item())
