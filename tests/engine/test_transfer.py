"""What is trained in each mode, and nothing else; the prompt that a training leaves."""

import torch

from glipv2_d2.checkpoint import read_checkpoint
from tests.support.tiny import tiny_model


def test_a_prompt_is_tuned_resumed_and_left_as_a_file(run_train_net, tmp_path):
    before, start = tiny_model(seed=1).state_dict(), tmp_path / "start.pth"
    torch.save({"model": before}, start)
    options = ("--mode", "prompt", f"train.init_checkpoint={start}", "train.ema.enabled=True")
    run_train_net(*options, "train.max_iter=2")
    folder = run_train_net(*options, "--resume", "train.max_iter=4", "train.eval_period=4")
    saved = read_checkpoint(folder / "model_final.pth", complete=True)
    (offsets,) = saved["model"].keys() - before.keys()
    assert all(torch.equal(saved["model"][name], value) for name, value in before.items())
    assert saved["model"][offsets].abs().max() > 0.01
    assert set(saved["ema"]["shadow"]) == {offsets}
