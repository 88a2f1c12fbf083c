"""train_net.py on a tiny model and data set: train, resume, evaluate, and what goes wrong."""

import json

import pytest
import torch

from glip_commands.main import main
from glipv2_d2.checkpoint import read_checkpoint
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import CheckpointError, ConfigError, TrainingDiverged, UsageError
from glipv2_d2.modeling.fusion import VLTower
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_model
from tests.support.tiny_data import CONFIG, NAMES, losses


def weights(folder):
    return read_checkpoint(folder / "model_final.pth")["model"]


def test_trains_evaluates_and_writes_what_it_did(run_train_net):
    folder = run_train_net(
        "train.eval_period=2", "train.ema.enabled=True", "model.head.prior_prob=0.5"
    )
    assert sorted(losses(folder)) == [0, 1, 2, 3]
    checkpoint = read_checkpoint(folder / "model_final.pth")
    assert checkpoint["iteration"] == 3 and checkpoint["ema"]["updates"] == 4
    results = json.loads((folder / "last_results.json").read_text())
    assert "AP50" in results["bbox"]
    assert (folder / "config.yaml").exists()
    log = (folder / "log.txt").read_text()
    # Of this package: what is trained on, how large the model is, its tables.
    assert "Training on tiny: " in log and "What is trained:" in log
    assert "over 3 of the 3 classes" in log
    history = json.loads((folder / "results.json").read_text())
    assert [entry["iterations"] for entry in history] == [4, 2]
    titles = [table["title"] for table in history[0]["tables"]]
    assert titles == ["bbox over 3 of the 3 classes", "bbox over 3 of the 3 classes, by class"]
    assert (folder / "results.md").read_text().count("| class | AP |") == 2
    assert list(folder.glob("events.out.tfevents*"))


def test_a_killed_run_resumes_as_if_nothing_had_happened(run_train_net, monkeypatch):
    options = ["train.max_iter=5", "train.checkpointer.period=2"]
    whole = run_train_net(*options, output="whole")

    def killed(self):
        if self.iter == 3:
            raise KeyboardInterrupt
        return step(self)

    step = GLIPTrainer.run_step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GLIPTrainer, "run_step", killed)
        run_train_net(*options, output="killed")
    folder = run_train_net("--resume", *options, output="killed")

    expected, found = losses(whole), losses(folder)
    assert found == pytest.approx(expected, abs=1e-6)
    a, b = (read_checkpoint(f / "model_final.pth") for f in (whole, folder))
    assert a["trainer"]["optimizer"]["param_groups"][0]["lr"] == pytest.approx(
        b["trainer"]["optimizer"]["param_groups"][0]["lr"]
    )
    for name, value in a["model"].items():
        torch.testing.assert_close(value, b["model"][name], atol=1e-5, rtol=1e-4)
    for name, value in a["ema"]["shadow"].items():
        torch.testing.assert_close(value, b["ema"]["shadow"][name], atol=1e-5, rtol=1e-4)


def test_precision_of_the_evaluation(run_train_net, monkeypatch):
    seen = []
    original = VLTower.forward

    def forward(self, *args):
        seen.append((self.training, torch.is_autocast_enabled("cpu")))
        return original(self, *args)

    monkeypatch.setattr(VLTower, "forward", forward)
    options = ("train.max_iter=1", "train.eval_period=0", "train.amp.enabled=False")
    run_train_net(*options, "inference.precision=bf16", output="half")
    assert set(seen) == {(True, False), (False, True)}
    seen.clear()
    with pytest.raises(ConfigError, match="inference.precision must be 'fp32' or 'bf16' on cpu"):
        run_train_net(*options, "inference.precision=int8", output="none")
    assert not seen  # before the training


def test_resume_of_nothing_starts_and_of_a_finished_run_ends(run_train_net):
    folder = run_train_net("--resume", "train.max_iter=1")
    before = weights(folder)
    run_train_net("--resume", "train.max_iter=1")
    assert all(torch.equal(value, before[name]) for name, value in weights(folder).items())


def test_eval_only_needs_weights_of_this_model(run_train_net, tmp_path):
    with pytest.raises(ConfigError, match="train.init_checkpoint=FILE"):
        run_train_net("--eval-only")
    torch.save({"model": {"fc.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="another model"):
        run_train_net("--eval-only", f"train.init_checkpoint={tmp_path / 'other.pth'}")
    with pytest.raises(CheckpointError, match="none.pth"):
        run_train_net("--eval-only", f"train.init_checkpoint={tmp_path / 'none.pth'}")


def test_eval_only_uses_the_average_and_equals_the_evaluation_of_training(run_train_net):
    eager = "model.head.prior_prob=0.5"  # an untrained model would detect nothing
    trained = run_train_net("train.eval_period=0", eager, output="trained")
    content = torch.load(trained / "model_final.pth", weights_only=True)
    content.pop("ema")
    raw = trained / "raw.pth"
    torch.save(content, raw)
    folders = {"trained": trained}
    for name, file in (("average", trained / "model_final.pth"), ("raw", raw)):
        options = ("--eval-only", f"train.init_checkpoint={file}", eager)
        folders[name] = run_train_net(*options, output=name)
    found = {
        name: json.loads(next(folder.rglob("coco_instances_results.json")).read_text())
        for name, folder in folders.items()
    }
    assert found["trained"]
    assert found["average"] == found["trained"]
    assert found["raw"] != found["trained"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_on_cpu(run_train_net, monkeypatch, precision):
    seen, forward = set(), VLTower.forward

    def spy(self, features, text):
        seen.add(features[0].dtype)
        return forward(self, features, text)

    monkeypatch.setattr(VLTower, "forward", spy)
    folder = run_train_net(
        "train.amp.enabled=True", f"train.amp.precision={precision}", "train.max_iter=2"
    )
    assert len(losses(folder)) == 2
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert {v.dtype for v in weights(folder).values() if v.is_floating_point()} == {torch.float32}


def test_micro_batches_change_nothing_but_the_memory(run_train_net):
    """A run may even go on with another number of them."""
    whole = run_train_net(output="whole")
    parts = run_train_net("train.micro_batches=4", output="parts")
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    for name in ("model_final.pth", "model_0000002.pth"):
        (parts / name).unlink()
    run_train_net("--resume", "train.micro_batches=2", output="parts")
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train.amp.enabled=True", "train.amp.precision=fp8"], "train.amp.*'fp16', got 'fp8'"),
        (["train.ema.enabled=True", "train.ema.decay=2"], r"train.ema.decay .* \[0, 1\), got 2"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["optimizer.params.lr_by_prefix={tower: 0.1}"], "optimizer: .*names 'tower', but no"),
        (["dataloader.train.total_batch_size=0"], "dataloader.train: total_batch_size=0 must"),
        (["train.max_iter=0"], "lr_multiplier: train.max_iter must be at least 1"),
        (["model.language_backbone.max_tokens=2"], "model: max_tokens=2 must lie"),
        (["model.neck.num_blokcs=3"], "model: .*unexpected keyword argument 'num_blokcs'"),
        (["model.backbone.bottom_up.dpeths=3"], "model: .*unexpected keyword argument 'dpeths'"),
        (["train.checkpointer.peroid=3"], "train.checkpointer: .*argument 'peroid'"),
        (
            ["train.patience.stpo=3", "train.best_metric=bbox/AP", "train.eval_period=1"],
            "train.patience: .*argument 'stpo'",
        ),
        (["train.weight_decay_steps=[2]"], r"train.weight_decay_steps must .*: \[2\]"),
        (["train.log_period=0"], "train.log_period must be at least 1, got 0"),
        (["train.micro_batches=0"], "train.micro_batches is a number from 1 on, got 0"),
        (["train.micro_batches=3"], "train.micro_batches=3 does not divide .*=4 must be a multi"),
    ],
)
def test_a_refused_setting_is_named(run_train_net, options, message):
    """In one line: train_net.py prints no traceback of a ConfigError."""
    with pytest.raises(ConfigError, match=message):
        run_train_net("train.max_iter=1", *options)


def test_mask_training_without_masks_is_refused_before_anything_is_built(run_train_net):
    with pytest.raises(ConfigError, match="dataloader.train.mapper.use_masks=True"):
        run_train_net(
            "--config-file", "demo/scenes_glipv2_mask.py", "train.eval_period=-1",
            "train.init_checkpoint=absent.pth", "dataloader.train.mapper.use_masks=False",
        )  # fmt: skip


def test_a_part_is_trained_resumed_and_evaluated(run_train_net, tmp_path, caplog):
    before, start = tiny_model(seed=1).state_dict(), tmp_path / "start.pth"
    torch.save({"model": before}, start)
    options = ("train.trained_parts=[head]", f"train.init_checkpoint={start}")
    options += ("train.ema.enabled=True", "train.eval_period=2", "optimizer.lr=0.1")
    with pytest.warns(FutureWarning, match="model.trained_parts is called train.trained_parts"):
        run_train_net("model.trained_parts=[head]", *options[1:], "train.max_iter=2")
    folder = run_train_net("--resume", *options, "train.max_iter=4")
    saved = read_checkpoint(folder / "model_final.pth")
    changed = {name for name, v in saved["model"].items() if not torch.equal(v, before[name])}
    assert changed and all(name.startswith("head.") for name in changed)
    assert set(saved["ema"]["shadow"]) == {n for n in before if n.startswith("head.")}
    assert caplog.text.count("What is trained:") == 2  # once a run
    assert sorted(losses(folder)) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="--resume from '.*': the checkpoint's moving average"):
        run_train_net("--resume", *options, "train.trained_parts=[head,neck]", "train.max_iter=5")


def test_a_part_that_is_not_there_is_refused_before_the_data_are_read(run_train_net):
    with pytest.raises(ConfigError, match="train.trained_parts names 'hed', .* it has: backbone, "):
        run_train_net("train.trained_parts=[hed]", "dataloader.train.datasets=[absent]")


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [(2, ConfigError, "with model.contrast"), (0, UsageError, "a whole number of names from 1")],
)
def test_a_shortlist_that_cannot_be_made_is_refused_before_the_data_are_read(
    run_train_net, size, error, message
):
    with pytest.raises(error, match=message):
        options = f"inference.shortlist={size}", "train.eval_period=0"
        run_train_net(*options, "dataloader.train.datasets=[absent]")


def test_nan_stops_with_iteration_terms_and_file_names(run_train_net, monkeypatch):
    from glipv2_d2.modeling import GLIP

    forward = GLIP.forward

    def poisoned(self, inputs):
        output = forward(self, inputs)
        seen.append([record["file_name"] for record in inputs])
        if len(seen) == 3:
            output["loss_box"] = output["loss_box"] * float("nan")
        return output

    seen = []
    monkeypatch.setattr(GLIP, "forward", poisoned)
    with pytest.raises(TrainingDiverged, match="iteration 2.*loss_box=nan") as caught:
        run_train_net()
    assert all(name in str(caught.value) for name in seen[-1])
    assert "loss_token=" in str(caught.value)


def test_infinite_gradient_stops_too(run_train_net, monkeypatch):
    from glipv2_d2.modeling import GLIP

    forward = GLIP.forward

    def poisoned(self, inputs):
        output = forward(self, inputs)
        # Its value is 0, its derivative infinite.
        output["loss_box"] = output["loss_box"] + (self.head.log_scale * 0).abs().sqrt().sum()
        return output

    monkeypatch.setattr(GLIP, "forward", poisoned)
    with pytest.raises(TrainingDiverged, match=r"iteration 0: the gradient is not finite.*\.png"):
        run_train_net()


def test_starts_from_weights(run_train_net):
    first = run_train_net("train.max_iter=2", output="first")
    second = run_train_net(
        f"train.init_checkpoint={first / 'model_final.pth'}",
        "train.max_iter=1", "optimizer.lr=0.0", "train.ema.enabled=False", output="second",
    )  # fmt: skip
    average = read_checkpoint(first / "model_final.pth")["ema"]["shadow"]
    name = next(iter(average))
    torch.testing.assert_close(weights(second)[name], average[name])


def test_official_weights_start_a_run_and_are_evaluated_without_fetching_berts(
    run_train_net, tmp_path
):
    model = tiny_model(seed=1)
    official = tmp_path / "official.pth"
    torch.save({"model": official_state(model.state_dict(), module=True)}, official)
    # The folder of the tiny language model holds no weights: asking for them would fail.
    options = ["model.language_backbone.pretrained=True", f"train.init_checkpoint={official}"]
    still = ["optimizer.lr=0.0", "train.ema.enabled=False"]
    folder = run_train_net(*options, *still, "train.max_iter=1")
    started = weights(folder)
    assert all(torch.equal(v, started[name]) for name, v in model.state_dict().items())
    run_train_net("--resume", *options, *still, "train.max_iter=2")
    assert read_checkpoint(folder / "model_final.pth")["iteration"] == 1
    evaluated = run_train_net("--eval-only", *options, output="evaluated")
    assert "AP50" in json.loads((evaluated / "last_results.json").read_text())["bbox"]


def test_a_model_of_a_fixed_vocabulary_is_tuned(run_train_net, tmp_path):
    whole, frozen = tmp_path / "whole.pth", tmp_path / "frozen.safetensors"
    torch.save({"model": tiny_model().state_dict()}, whole)
    command = ["export", "--config-file", str(CONFIG), "--weights", str(whole)]
    command += ["--format", "weights", "--prompt", ", ".join(NAMES), "--output", str(frozen)]
    assert main(command) == 0
    config = ["--config-file", str(CONFIG.with_name("tiny_fixed_train.py"))]
    start = f"train.init_checkpoint={frozen}"
    folder = run_train_net(*config, start, "train.max_iter=2")
    run_train_net(*config, "--resume", start, "train.max_iter=3")
    assert list(losses(folder)) == [0, 1, 2]
    before, tuned = read_checkpoint(frozen)["model"], weights(folder)
    assert before.keys() == tuned.keys()  # no language model is back
    for name, same in {"vocabulary": True, "words": False}.items():
        name = f"language_backbone.{name}"
        assert torch.equal(before[name], tuned[name]) == same
    end = f"train.init_checkpoint={folder / 'model_final.pth'}"
    evaluated = run_train_net(*config, "--eval-only", end, output="evaluated")
    assert "AP50" in json.loads((evaluated / "last_results.json").read_text())["bbox"]


def test_a_wrong_checkpoint_is_refused_before_the_data_are_read(run_train_net, tmp_path):
    wrong = tmp_path / "wrong.pth"
    torch.save({"model": {"other.weight": torch.zeros(2)}}, wrong)
    with pytest.raises(CheckpointError, match="wrong.pth"):
        run_train_net(f"train.init_checkpoint={wrong}", "dataloader.train.datasets=[absent]")


def test_random_weights_are_warned_of(run_train_net, caplog):
    folder = run_train_net("train.max_iter=1")
    assert "RANDOM WEIGHTS: model.backbone.bottom_up will be trained from scratch" in caplog.text
    caplog.clear()
    run_train_net("--resume", "train.max_iter=2")
    start = f"train.init_checkpoint={folder / 'model_final.pth'}"
    run_train_net("train.max_iter=1", start, output="given")
    meant = "model.backbone.bottom_up.pretrained=False"
    run_train_net("train.max_iter=1", meant, output="meant")
    assert "RANDOM WEIGHTS" not in caplog.text


def test_overrides(run_train_net, caplog):
    with pytest.raises(ConfigError, match="path.key=value"):
        run_train_net("train.max_iter")
    run_train_net("train.max_itr=3", "train.max_iter=1")
    assert "did not have: train.max_itr" in caplog.text
