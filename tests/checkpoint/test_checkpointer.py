"""Training state and weights through our own checkpointer."""

import pytest
import torch

from glipv2_d2.checkpoint import (
    GLIPCheckpointer,
    find_checkpoint,
    load_weights,
    read_checkpoint,
)
from glipv2_d2.engine.ema import ModelEMA
from glipv2_d2.errors import CheckpointError
from tests.support.tiny import tiny_model
from tests.support.toy_model import Toy, save


def test_a_part_is_enough_to_start_training_only(tmp_path, caplog):
    whole = Toy().state_dict()
    path = tmp_path / "w.pth"
    torch.save({k: v for k, v in whole.items() if not k.startswith("head")}, path)
    with pytest.raises(CheckpointError, match="2 are missing, for example head.weight, head.bias"):
        load_weights(Toy(), path)
    model = Toy()
    GLIPCheckpointer(model).load(str(path))
    assert torch.equal(model.neck.weight, whole["neck.weight"])
    assert "2 start from their initial values" in caplog.text


def test_weights_without_the_prompts_that_are_to_be_tuned_are_no_news(tmp_path, caplog):
    path = save(tiny_model(), tmp_path / "base.pth")
    model = tiny_model()
    model.prompt_embeddings.add("pets/0", torch.ones(3, 32), trained=True)
    GLIPCheckpointer(model, strict=True).load(path)
    assert torch.equal(model.prompt_embeddings["pets/0"], torch.ones(3, 32))
    assert "not found" not in caplog.text


def test_missing_file_is_named_and_does_not_block_the_next_load(tmp_path):
    checkpointer = GLIPCheckpointer(Toy())
    with pytest.raises(CheckpointError, match="nothing.pth"):
        checkpointer.load(str(tmp_path / "nothing.pth"))
    (tmp_path / "bad.pth").write_bytes(b"bad")
    with pytest.raises(CheckpointError, match="bad.pth"):
        checkpointer.load(str(tmp_path / "bad.pth"))
    checkpointer.load(save(Toy(), tmp_path / "good.pth"))


def test_the_average_is_used_except_when_resuming(tmp_path):
    model = Toy()
    ema = ModelEMA(model)
    for value in ema.shadow.values():
        value.fill_(7.0)
    checkpointer = GLIPCheckpointer(model, str(tmp_path), ema=ema)
    checkpointer.save("model_0000004", iteration=4)
    path = checkpointer.get_checkpoint_file()

    used = Toy()
    load_weights(used, path)
    assert (used.neck.weight == 7).all()

    resumed = Toy()
    restored = ModelEMA(resumed)
    again = GLIPCheckpointer(resumed, str(tmp_path), ema=restored)
    assert find_checkpoint(tmp_path).iteration == 4
    again.resume_or_load("", resume=True)
    assert torch.equal(resumed.neck.weight, model.neck.weight)
    assert (restored.shadow["neck.weight"] == 7).all()


class State:
    """What a trainer is to the checkpointer."""

    def state_dict(self):
        return {"step": 1}

    def load_state_dict(self, state):
        self.loaded = state


def test_a_run_resumed_without_the_average_goes_on_with_its_own_weights(tmp_path):
    model = Toy()
    ema = ModelEMA(model)
    for value in ema.shadow.values():
        value.fill_(7.0)
    GLIPCheckpointer(model, str(tmp_path), ema=ema, trainer=State()).save("model_0000004")
    resumed, trainer = Toy(), State()
    GLIPCheckpointer(resumed, str(tmp_path), trainer=trainer).resume_or_load("", resume=True)
    assert trainer.loaded == {"step": 1}
    assert torch.equal(resumed.neck.weight, model.neck.weight)


def test_data_parallel_prefix(tmp_path):
    model = Toy()
    path = tmp_path / "w.pth"
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, path)
    other = Toy()
    load_weights(other, path)
    assert torch.equal(other.head.weight, model.head.weight)


def compiled_in_part(model):
    model.neck = torch.compile(model.neck)
    return model


@pytest.mark.parametrize("wrap", [torch.compile, compiled_in_part])
def test_compiled_models_save_and_load(tmp_path, wrap):
    """Nothing is compiled before the first call; the names are there at once."""
    saved = wrap(Toy())
    GLIPCheckpointer(saved, str(tmp_path)).save("w")
    assert any("_orig_mod" in name for name in saved.state_dict())
    expected = saved.state_dict().values()
    for model in (Toy(), torch.compile(Toy()), compiled_in_part(Toy())):
        load_weights(model, tmp_path / "w.pth")
        for value, other in zip(model.state_dict().values(), expected):
            assert torch.equal(value, other)
    plain = save(Toy(), tmp_path / "plain.pth")
    load_weights(wrap(Toy()), plain)


def test_saved_training_state_reads_without_unpickling_objects(tmp_path):
    model = Toy()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model.head(model.neck(torch.ones(1, 4))).sum().backward()
    optimizer.step()
    checkpointer = GLIPCheckpointer(model, str(tmp_path), optimizer=optimizer)
    checkpointer.save("model_final", iteration=1)
    assert read_checkpoint(tmp_path / "model_final.pth")["iteration"] == 1
