"""A batch in micro-batches has the losses and gradients of the whole batch, with every head."""

import random

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from glipv2_d2 import compat
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import ConfigError, TrainingDiverged
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.heads import MaskedLanguageHead
from glipv2_d2.modeling.heads.mlm import maskable_words
from glipv2_d2.modeling.processes import mean_over_processes
from glipv2_d2.modeling.sharding import shard, whole_tensor
from glipv2_d2.seeding import seed
from tests.support.tiny import lively, tiny_config, tiny_masks_input, tiny_tasks_config


class EveryOtherWord(MaskedLanguageHead):
    """Withholds the same words in whatever batch a prompt is."""

    def prepare_text(self, batch, tokenizer):
        withheld = maskable_words(batch.tokens, batch.prompts, batch.gt_phrases)
        withheld[:, 1::2] = False
        return batch.showing(batch.shown, withheld)


def glip_config():
    return tiny_config()


def glipv2_config():
    """Every head, none of which draws anything."""
    head = L(EveryOtherWord)(text_channels=32, vocabulary_size=30522)
    model = tiny_tasks_config(mlm_head=head)
    model.mask_head.regions_per_image = 100_000
    return model


CONFIGS = {"GLIP": glip_config, "GLIPv2": glipv2_config}


def batch(tasks):
    """Eight images of several sizes, one without boxes; `tasks`: some are asked other things."""
    sizes = [(64, 96), (96, 64), (64, 64), (40, 96), (64, 96), (32, 50), (80, 64), (64, 96)]
    inputs = [
        tiny_masks_input(height=h, width=w, boxes=[(2, 3, 30, 20), (8, 8, 24, 30)], seed=seed)
        for seed, (h, w) in enumerate(sizes)
    ]
    inputs[2] = tiny_masks_input(height=64, width=64, boxes=(), classes=(), seed=9)
    inputs[5]["prompt"] = Prompt.from_classes(["cat", "a much longer name", "bird"])
    inputs[7]["prompt"] = Prompt.parse("a [cat] sits under [the old tree] on a [hill]")
    if tasks:
        question = Prompt.from_caption("what color is it?", (), kind="question")
        inputs[1] = {**inputs[1], "prompt": question, "answers": {"red": 1.0, "blue": 0.3}}
        for i, text in ((3, "a cat on a hill"), (6, "two dogs")):
            inputs[i] = {**inputs[i], "prompt": Prompt.from_caption(text, (), kind="caption")}
        for i in (1, 3, 6):
            del inputs[i]["instances"]
    return inputs


def step(kind, inputs, micro_batches=1, wrap=lambda model: model):
    """Losses and gradients of one step of the trainer, in float64."""
    torch.manual_seed(0)
    model = lively(instantiate(CONFIGS[kind]())).double()
    model.train()
    wrapped = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = GLIPTrainer(wrapped, [inputs], optimizer, micro_batches=micro_batches)
    with EventStorage(0) as trainer.storage:
        trainer.run_step()
        logged = {name: value for name, (value, _) in trainer.storage.latest().items()}
    return logged, {name: whole_tensor(p.grad) for name, p in model.named_parameters()}


def check(found, expected):
    """In float64, but that counts are float32 and so are the losses that are logged."""
    (losses, gradients), (whole_losses, whole_gradients) = found, expected
    for name in whole_losses.keys() - {"data_time"}:
        assert losses[name] == pytest.approx(whole_losses[name], rel=1e-6), name
    for name, gradient in whole_gradients.items():
        atol = 1e-6 * float(gradient.abs().max()) + 1e-9
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=atol, msg=name)


@pytest.mark.parametrize("kind", CONFIGS)
def test_micro_batches_equal_the_whole_batch(kind):
    inputs = batch(tasks=kind == "GLIPv2")
    whole = step(kind, inputs)
    assert all(value != 0 for value in whole[0].values())
    for count in (2, 3, 8):
        check(step(kind, inputs, count), whole)


def _worker(folder):
    """One of two processes; each has half of the batch, in two micro-batches."""
    half = batch(tasks=True)[comm.get_rank() * 4 :][:4]
    for name, wrap in (("ddp", compat.create_ddp_model), ("fsdp", sharded)):
        torch.save(step("GLIPv2", half, 2, wrap), folder / f"{name}{comm.get_rank()}.pth")


def sharded(model):
    shard(model)
    return model


@pytest.mark.slow
def test_micro_batches_of_two_processes_equal_the_whole_batch(tmp_path, quick_processes):
    """The halves are padded to one size, or even two processes would not equal one."""
    compat.launch(_worker, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    whole = step("GLIPv2", batch(tasks=True))
    for name in ("ddp", "fsdp"):
        first, second = (torch.load(tmp_path / f"{name}{rank}.pth") for rank in (0, 1))
        check(first, whole)
        assert all(torch.equal(second[1][key], gradient) for key, gradient in first[1].items())


def test_a_batch_without_any_box():
    """The number of positives is at least one in the whole batch, not in each micro-batch."""
    empty = [tiny_masks_input(boxes=(), classes=(), seed=seed) for seed in range(4)]
    check(step("GLIP", empty, 4), step("GLIP", empty))


class Drawing(torch.nn.Module):
    """A model that draws a number for each input, twice the same; it remembers them."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.drawn = []

    def forward(self, inputs):
        # As the prompts of inputs without one are, by Python's generator.
        draws = torch.rand(len(inputs)) + torch.tensor([random.random() for _ in inputs])
        count = mean_over_processes(draws.sum())
        self.drawn.append(draws)
        return {"loss": (self.weight * draws).sum() / count}


def trained_by(model, micro_batches, batches=1):
    """The trainer after some steps with ten inputs each."""
    data = [[{"number": i} for i in range(10)]] * batches
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seed(0)
    trainer = GLIPTrainer(model, data, optimizer, micro_batches=micro_batches)
    trainer.train(0, batches)
    return trainer


def test_both_turns_draw_the_same_and_later_steps_other_numbers():
    model = Drawing()
    trainer = trained_by(model, 3, batches=2)
    first, second = model.drawn[:6], model.drawn[6:]
    for drawn in (first, second):
        assert all(torch.equal(told, learned) for told, learned in zip(drawn[:3], drawn[3:]))
        assert [len(draws) for draws in drawn[:3]] == [3, 3, 4]
    assert not torch.equal(torch.cat(first[3:]), torch.cat(second[3:]))
    whole = Drawing()
    trained_by(whole, 1, batches=2)
    # Nothing is drawn that one batch would not draw, so that the next iteration draws the same.
    assert torch.equal(torch.cat(first[3:]), whole.drawn[0])
    assert torch.equal(torch.cat(second[3:]), whole.drawn[1])
    assert model.weight.item() == pytest.approx(whole.weight.item())
    assert trainer.storage.latest()["loss"][0] == pytest.approx(0.9)  # the gradient of 1 is 1


def test_more_micro_batches_than_inputs_are_as_many_as_there_are_inputs():
    model = Drawing()
    trained_by(model, 64)
    assert [len(draws) for draws in model.drawn] == [1] * 20


def test_what_a_step_names_is_the_whole_batch():
    model = Drawing()
    model.weight.data.fill_(float("nan"))
    data = [[{"file_name": f"{i}.png"} for i in range(4)]]
    trainer = GLIPTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1), micro_batches=2)
    with pytest.raises(TrainingDiverged, match="loss=nan. Images of the batch: 0.png, .* 3.png"):
        trainer.train(0, 1)


def test_batch_norm_that_is_trained_is_refused():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="micro_batches cannot .* whole batch: 1 is a BatchNorm"):
        GLIPTrainer(model, [], optimizer, micro_batches=2)
    model[1].requires_grad_(False)
    GLIPTrainer(model, [], optimizer, micro_batches=2)
