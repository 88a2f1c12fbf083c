"""`glip finetune` as a user runs it, on the tiny model and ten images."""

import json
import os
import signal
from argparse import Namespace

import pytest
import torch
from PIL import Image

from glip_commands.finetune import finetune
from glip_commands.main import main
from glipv2_d2.checkpoint import read_checkpoint, read_prompt_file
from glipv2_d2.cli import finetune as command
from glipv2_d2.cli.finetuning.own_data import read_own_data
from glipv2_d2.config import get_config
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import UsageError
from tests.support.benchmark_tree import catalogs_put_back
from tests.support.detection_exports import every_export
from tests.support.package_log import package_log_put_back
from tests.support.tiny_data import CONFIG, NAMES, write_tiny_data

PICTURES = ("data", "precision_recall", "confusion", "best", "worst", "learning")


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """Ten images with three classes; also what the config trains and tests on."""
    folder = tmp_path_factory.mktemp("own")
    write_tiny_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def fine_tune(own_data, tiny_weights):
    """fine_tune(output, *arguments) -> the exit status of `glip finetune`."""

    def run(output, *arguments):
        given = [
            "finetune", "--train", own_data / "tiny.json", "--images", own_data,
            "--weights", tiny_weights, "--config-file", CONFIG, "--num-gpus", "0",
            "--output", output, *arguments, "dataloader.train.num_workers=0", "own.num_workers=0",
        ]  # fmt: skip
        return main([str(word) for word in given])

    return run


@pytest.fixture(scope="module")
def whole(fine_tune, module_path):
    """The folder of a run from the data to the report, with replay and classes of before."""
    folder = module_path / "mine"
    with catalogs_put_back(), package_log_put_back():
        assert fine_tune(folder, "--max-iter", "4", "train.eval_period=2") == 0
    return folder


def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_run_leaves_its_report(whole):
    told = report(whole)
    assert told["finished"] and told["images"] == {"train": 8, "val": 2}
    page = (whole / "report.md").read_text()
    for name in PICTURES:
        assert f"]({name}.png)" in page
        Image.open(whole / f"{name}.png").verify()
    rows = told["tables"]["classes"]["rows"]
    assert [row[0] for row in rows] == list(NAMES)
    assert sum(row[1] + row[2] for row in rows) == 18  # boxes
    assert "glip detect photo.jpg" in page and "'red circle, blue square, green star'" in page


def test_the_classes_of_before_are_measured_and_the_weights_merged(whole):
    told = report(whole)
    assert [point["alpha"] for point in told["points"]] == [0, 0.25, 0.5, 0.75, 1]
    assert all(set(point["old"]) == {"tiny"} for point in told["points"])
    assert told["before"].keys() == told["after"].keys() == {"mine_val", "tiny"}
    best = max(
        (p for p in told["points"] if p["alpha"] and p["own"] >= told["points"][-1]["own"] - 1),
        key=lambda p: (p["old"]["tiny"], p["alpha"]),
    )
    assert told["alpha"] == best["alpha"]
    # They are evaluated during the training, too.
    assert "tiny/bbox/AP" in (whole / "training/metrics.json").read_text()


def test_the_result_is_a_release_file_between_base_and_tuned_model(whole, tiny_weights):
    alpha = report(whole)["alpha"]
    base = read_checkpoint(tiny_weights)["model"]
    tuned = read_checkpoint(whole / "training/model_best.pth")["model"]
    result = read_checkpoint(whole / "model.safetensors")["model"]
    name = "head.bbox_pred.weight"
    assert not torch.equal(base[name], tuned[name])
    between = torch.lerp(base[name], tuned[name], alpha)
    torch.testing.assert_close(result[name].float(), between.half().float(), rtol=0, atol=1e-6)


def test_the_config_has_every_choice_with_its_reason(whole):
    text = (whole / "config.py").read_text()
    assert "# batch: 8 training images" in text
    with catalogs_put_back():
        config = get_config(whole / "config.py")
    assert config.train.max_iter == 4 and config.train.eval_period == 2
    assert config.dataloader.train.total_batch_size == 4
    # As many images of before as of one's own.
    assert config.dataloader.train.datasets == [["mine_train", 1.0], ["tiny", 0.8]]


def test_the_same_command_again_reports_again(whole, fine_tune, capsys):
    (whole / "report.md").unlink()
    before = (whole / "training/metrics.json").read_text()
    assert fine_tune(whole, "--max-iter", "4", "train.eval_period=2") == 0
    assert "goes on with what is in" in capsys.readouterr().out
    assert (whole / "report.md").is_file()
    assert (whole / "training/metrics.json").read_text() == before
    assert fine_tune(whole, "--max-iter", "5") == 2
    assert "holds another fine-tuning (max_iter 4, now 5" in capsys.readouterr().err


def test_check_stops_after_the_plan(fine_tune, tmp_path, capsys):
    without = ("--old", "none", "--replay", "none")
    assert fine_tune(tmp_path / "out", "--check", "--max-iter", "4", *without) == 0
    said = capsys.readouterr().out
    assert "none, as you say" in said
    assert "classes: 3, 0 without boxes" in said
    assert "8 images to train on, 2 to validate on" in said
    for topic in ("batch", "rate", "workers", "precision", "image size", "iterations"):
        assert f"\n  {topic} " in said
    assert not (tmp_path / "out/training").exists()


def test_ctrl_c_keeps_the_best_and_the_same_command_goes_on(
    fine_tune, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "out"
    given = ("--max-iter", "6", "--old", "none", "--replay", "none", "train.eval_period=2")
    step = GLIPTrainer.run_step

    def stopped_at_four(self):
        step(self)
        if self.iter == 3 and getattr(self, "max_iter", 0):  # not a trial
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(GLIPTrainer, "run_step", stopped_at_four)
        assert fine_tune(folder, *given) == 130
    assert not report(folder)["finished"]
    assert "stopped before its end" in (folder / "report.md").read_text()
    capfd.readouterr()
    with catalogs_put_back():
        assert fine_tune(folder, *given) == 0
    assert report(folder)["finished"]
    last = read_checkpoint(folder / "training/model_final.pth")
    assert last["iteration"] == 5
    lines = (folder / "training/metrics.json").read_text().splitlines()
    evaluated = [json.loads(line)["iteration"] for line in lines if "bbox/AP" in line]
    assert evaluated == [2, 4, 6]


def test_a_tuned_prompt_is_a_small_file_for_the_base(fine_tune, tmp_path, tiny_weights):
    folder = tmp_path / "mine"
    assert fine_tune(folder, "--mode", "prompt", "--old", "none", "--max-iter", "2") == 0
    assert (folder / "prompt.safetensors").stat().st_size < 20_000
    assert not (folder / "model.safetensors").exists()
    told = report(folder)
    assert told["result"] == "prompt.safetensors" and told["alpha"] == 1
    assert f"--weights {tiny_weights} --prompt {folder}/prompt.safetensors" in told["use"]
    (prompt,) = read_prompt_file(folder / "prompt.safetensors").prompts
    assert prompt.names == NAMES


def test_few_images_are_measured_on_themselves(fine_tune, own_data, tmp_path, capsys):
    content = json.loads((own_data / "tiny.json").read_text())
    content["images"] = content["images"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    (tmp_path / "one.json").write_text(json.dumps(content))
    options = ("--train", tmp_path / "one.json", "--old", "none", "--replay", "none")
    assert fine_tune(tmp_path / "out", *options, "--check", "--max-iter", "2") == 0
    said = capsys.readouterr().out
    assert "1 images to train on, 1 to validate on" in said
    assert "measured on the training images" in said and "nothing about new ones" in said


def parsed(*arguments):
    given = ["--train", "x.json", "--weights", "w.pth", *map(str, arguments)]
    return Namespace(**finetune.make_context("glip finetune", given).params)


@pytest.mark.parametrize("export", [write for _, write in every_export()])
def test_exports_are_taken_as_they_are(export, tmp_path, tokenizer):
    train, val = command.register(parsed("--train", export(tmp_path / "export")), "mine")
    if export.__name__ in ("roboflow_coco", "roboflow_yolo"):  # has a folder for it
        assert val == "mine_given_val"
    data = read_own_data(
        train, None, tokenizer=tokenizer, seed=0, picture=tmp_path / "data.png", say=print
    )
    assert data.classes == ["bolt", "nut"] and data.boxes_by_class("train") == {0: 3, 1: 3}
    assert len(data.train) == 3


def test_options_that_contradict():
    with pytest.raises(UsageError, match="give one of them"):
        command.run(parsed("--minutes", "3", "--max-iter", "4"))
    with pytest.raises(UsageError, match="--val-images needs --val"):
        command.run(parsed("--val-images", "x"))
    with pytest.raises(UsageError, match="'fish' is no override"):
        command.run(parsed("fish"))


def test_weights_of_another_model_are_told_before_the_plan(
    fine_tune, tmp_path, understanding_weights, capsys
):
    options = ("--weights", understanding_weights, "--check", "--old", "none", "--replay", "none")
    assert fine_tune(tmp_path / "out", *options) == 2
    told = capsys.readouterr()
    assert "holds weights of a larger model" in told.err and "Plan, and why" not in told.out


@pytest.mark.parametrize("name", ["config.py", "model.safetensors", "training/model_best.pth"])
def test_a_folder_with_other_work_is_refused(name, fine_tune, tmp_path, capsys):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert fine_tune(tmp_path, "--check") == 2
    assert f"has {name.split('/')[0]}, and no finetune.json" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_data_that_are_not_there(fine_tune, tmp_path, capsys):
    assert fine_tune(tmp_path / "out", "--train", tmp_path / "no.json") == 2
    assert "no.json" in capsys.readouterr().err
    assert fine_tune(tmp_path / "out2", "--old", "nothing_such") == 2
    assert "'nothing_such'" in capsys.readouterr().err
    for option in ("--old", "--replay"):
        given = ("--old", "none") if option == "--replay" else ()
        words = (*given, option, "none", option, "mine")
        assert fine_tune(tmp_path / option, "--check", *words) == 2
        error = f"{option} none is no data set at all: leave it out beside mine"
        assert error in capsys.readouterr().err
