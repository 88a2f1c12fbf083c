"""A training whose model is cut over two processes is that of DDP, and leaves the same files."""

import json
from functools import partial

import pytest
import torch
from detectron2.utils import comm
from timm.models.vision_transformer import Block

from glip_commands.train import parse
from glipv2_d2.checkpoint import read_checkpoint
from glipv2_d2.compat import launch
from glipv2_d2.engine import trainer, training
from glipv2_d2.modeling.sharding import gathered, local_part, shard
from tests.support import recording_run
from tests.support.tiny_data import CONFIG, losses

PERIODIC = "model_0000001.pth"


def held(model):
    """How much of each block of the image encoder, and of the rest, this process has."""
    counts = {"blocks": [0, 0], "rest": [0, 0]}
    for name, parameter in model.named_parameters():
        count = counts["blocks" if ".blocks." in name and "backbone" in name else "rest"]
        count[0] += local_part(parameter).numel()
        count[1] += parameter.numel()
    return {name: own / whole for name, (own, whole) in counts.items()}


def worker(folder):
    """One of two processes, in which three runs follow each other."""
    shares, run_step = [], trainer.GLIPTrainer.run_step

    def watched(self):
        shares.append(held(self.model))
        run_step(self)
        shares.append(held(self.model))

    def run(name, *options):
        arguments = ["--config-file", str(CONFIG), "--num-gpus", "0", "--num-processes", "2"]
        arguments += [*options, f"train.output_dir={folder / name}", "train.ema.enabled=True"]
        # An untrained model would detect nothing.
        recording_run.main(parse([*arguments, "train.eval_period=2", "model.head.prior_prob=0.5"]))

    def evaluated(dataloader, model, **options):
        # Else a process with one batch more would wait for the others.
        assert held(model) == {"blocks": 1.0, "rest": 1.0}
        return evaluate(dataloader, model, **options)

    evaluate, training.evaluate_test_sets = training.evaluate_test_sets, evaluated
    run("whole", "train.checkpointer.period=2")
    trainer.GLIPTrainer.run_step = watched
    run("cut", "train.checkpointer.period=2", "train.fsdp=True")
    (folder / f"shares_{comm.get_rank()}.json").write_text(json.dumps(shares))
    if comm.is_main_process():
        (folder / "resumed").mkdir()
        (folder / "resumed" / PERIODIC).write_bytes((folder / "whole" / PERIODIC).read_bytes())
        (folder / "resumed/last_checkpoint").write_text(PERIODIC)
    comm.synchronize()
    run("resumed", "--resume", "train.fsdp=True")


def compare(found, expected):
    """Two states; sums over processes are taken in another order."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            compare(found[key], expected[key])
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected)
        for pair in zip(found, expected):
            compare(*pair)
    elif isinstance(found, torch.Tensor):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    else:
        assert found == expected


def best_scores(folder):
    """Of the last evaluation, of the hundred best boxes."""
    boxes = json.loads(next(folder.rglob("coco_instances_results.json")).read_text())
    return torch.tensor([box["score"] for box in boxes]).sort(descending=True).values[:100]


complete = partial(read_checkpoint, complete=True)


@pytest.mark.slow
def test_a_run_is_the_same_and_goes_on_from_either_kind(tiny_data, tmp_path, quick_processes):
    launch(worker, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    whole, cut, resumed = (tmp_path / name for name in ("whole", "cut", "resumed"))
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-6)
    assert losses(resumed) == pytest.approx({2: losses(whole)[2], 3: losses(whole)[3]}, rel=1e-6)
    for name in (PERIODIC, "model_final.pth"):
        compare(complete(cut / name), complete(whole / name))
    final = [complete(folder / "model_final.pth") for folder in (resumed, whole)]
    for key in ("model", "ema"):
        compare(final[0][key], final[1][key])
    # The last of the boxes are as many as they happen to be.
    (expected, *others) = map(best_scores, (whole, cut, resumed))
    for found in others:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # Of an uneven number one process has one row more. The blocks are cut, once they have computed,
    # and all of the model is when a step is over.
    for rank in (0, 1):
        for share in json.loads((tmp_path / f"shares_{rank}.json").read_text()):
            assert share == pytest.approx({"blocks": 0.5, "rest": 0.5}, abs=0.1)


class Blocks(torch.nn.Module):
    """An image encoder of one block, which an evaluation need not call by the model."""

    def __init__(self):
        super().__init__()
        self.block = Block(dim=8, num_heads=2)
        self.last = torch.nn.Linear(8, 1)

    def inference(self, x):
        return self.last(self.block(x))

    def forward(self, x):
        return self.inference(x).sum()


def evaluated_first(folder):
    """One of two processes: test-time augmentation, or LVIS's masks, before any step."""
    torch.manual_seed(comm.get_rank())
    model = Blocks()
    shard(model)
    x = torch.ones(1, 3, 8)
    with torch.no_grad(), gathered(model):
        found = model.inference(x).sum()
    loss = model(x)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    torch.save((found, loss.detach()), folder / f"{comm.get_rank()}.pth")


@pytest.mark.slow
def test_a_resumed_run_may_begin_with_an_evaluation(tmp_path, quick_processes):
    launch(evaluated_first, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    for found in (*first, *second):  # the weights of the first process
        torch.testing.assert_close(found, first[0])


def test_a_model_that_is_not_cut_is_left_as_it_is():
    model = torch.nn.Linear(2, 2)
    with gathered(model):
        assert type(model.weight) is torch.nn.Parameter
