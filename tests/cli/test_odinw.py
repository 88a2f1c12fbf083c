"""`glip odinw`: its runs and tables with made-up results, and real runs of the tiny model."""

import json
from argparse import Namespace
from pathlib import Path

import click
import pytest
import torch

from glip_commands.main import main
from glip_commands.odinw import odinw
from glipv2_d2.checkpoint import read_checkpoint
from glipv2_d2.cli import odinw as command
from glipv2_d2.cli.sweep import running
from glipv2_d2.engine import training
from glipv2_d2.errors import ConfigError, DataError
from tests.support import benchmark_tree as tree
from tests.support.tiny_data import CONFIG, write_tiny_data

FEW_SHOT = [f"fewshot_{base}_shot3_seed{seed}" for base in ("train", "val") for seed in (3, 30)]
TRUTH = {"image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}


@pytest.fixture(scope="module")
def odinw_root(tmp_path_factory):
    """All of ODinW, and what fine-tuning on two data sets needs."""
    root = tmp_path_factory.mktemp("odinw_data")
    tree.odinw(root)
    tree.odinw(root, ("pothole", "Packages"), ["train", *FEW_SHOT], count=2)
    with tree.catalogs_at(root):
        yield root


@pytest.fixture
def sweep(odinw_root, tiny_weights, tmp_path):
    """sweep(*arguments) -> the table."""

    def run(*arguments, output="sweep"):
        fixed = ["--config-file", str(CONFIG), "--weights", str(tiny_weights), "--num-gpus", "0"]
        given = [*fixed, "--output", str(tmp_path / output), *arguments]
        assert command.run(Namespace(**odinw.make_context("glip odinw", given).params)) == 0
        return (tmp_path / output / "table.md").read_text()

    return run


@pytest.fixture
def pretended(monkeypatch):
    """`glip train` does nothing but leave an AP of 10 and more; returns its command lines."""
    commands = []

    def execute(arguments, log):
        commands.append(list(arguments))
        values = dict(text.split("=", 1) for text in arguments if "=" in text)
        folder = Path(values["train.output_dir"])
        log.write_text("something\nbad news\n")
        if "fail" in values:
            return 3
        if "--eval-only" in arguments:
            files = folder / "inference" / "test"
            files.mkdir(parents=True)
            (files / "coco_instances_results.json").write_text(json.dumps([TRUTH]))
            seed = next((s for s in (300, 30, 3) if f"seed{s}/" in str(folder)), 0)
            select = values["evaluation.val"]
            results = {s: {"bbox": {"AP": b + seed / 15}} for s, b in (("test", 10), (select, 20))}
            (folder / "last_results.json").write_text(json.dumps(results))
        else:
            folder.mkdir(parents=True)
            (folder / "model_best.pth").touch()
        return 0

    monkeypatch.setattr(running, "execute", execute)
    return commands


def test_a_sweep_ends_in_the_table(sweep, pretended, tmp_path, capsys):
    table = sweep()
    assert len(pretended) == 13
    lines = table.splitlines()
    assert lines[2].startswith("| tiny_train | - | 0 | test | 10.0 |") and lines[2].endswith(
        "10.0 |"
    )
    assert lines[3].startswith("| tiny_train | - | 0 | val | 20.0 |")
    assert (tmp_path / "sweep/table.md").read_text() == table
    assert "tiny_train,-,0,test,10.0" in (tmp_path / "sweep/table.csv").read_text()
    submitted = json.loads((tmp_path / "sweep/evalai_zero_shot.json").read_text())
    assert len(submitted) == 13 and submitted["pothole"] == [TRUTH]
    command = next(c for c in pretended if "evaluation.test=odinw_EgoHands_generic_test" in c)
    assert "evaluation.val=odinw_EgoHands_generic_minival" in command
    assert "evaluation.caption_knowledge=False" in command
    capsys.readouterr()
    assert sweep() == table
    assert len(pretended) == 13  # nothing is done twice
    assert capsys.readouterr().out.count("(finished before)") == 13


def test_an_interrupted_run_is_done_again(sweep, pretended, tmp_path, monkeypatch):
    only = ("--only", "pothole,Packages,Aquarium")

    def interrupted(arguments, log):
        if "evaluation.val=odinw_Packages_val" in arguments:
            raise KeyboardInterrupt
        return pretend(arguments, log)

    pretend = running.execute
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(running, "execute", interrupted)
        sweep(*only)
    assert len(pretended) == 1
    table = sweep(*only, "evaluation.num_workers=2")
    done = [next(t for t in c if t.startswith("evaluation.val=")) for c in pretended]
    assert done == [f"evaluation.val=odinw_{n}_val" for n in ("Aquarium", "Packages", "pothole")]
    assert table.splitlines()[2].endswith("| - |")  # three data sets are not the benchmark


def test_the_suite_of_35(sweep, pretended):
    table = sweep("--suite", "35")
    assert len(pretended) == 35
    assert all("evaluation.caption_knowledge=True" in command for command in pretended)
    assert any("evaluation.test=odinw35_CottontailRabbits_test" in command for command in pretended)
    assert table.splitlines()[2].endswith("| 10.0 |")


def test_few_shot_runs(sweep, pretended, tmp_path):
    table = sweep("--shots", "3", "--seeds", "3,30", "--only", "pothole,Packages", "fish=1")
    assert len(pretended) == 8  # two data sets, two seeds, training and evaluation
    training, evaluation = pretended[:2]
    assert {"--tune", "--resume", "fish=1"} <= set(training)
    # Two images, four copies of each, batches of four.
    for expected in (
        "train.max_iter=400", "train.eval_period=2", "train.patience.stop=8",
        "dataloader.train.datasets=[['odinw_Packages_fewshot_train_shot3_seed3',4]]",
        "dataloader.test.dataset='odinw_Packages_fewshot_val_shot3_seed3'",
    ):  # fmt: skip
        assert expected in training
    folder = tmp_path / "sweep/3_shot_seed3/Packages"
    assert f"train.init_checkpoint={folder}/training/model_best.pth" in evaluation
    assert "evaluation.caption_knowledge=False" in evaluation
    assert not list(folder.rglob("*.pth"))  # gigabytes a run
    assert "| 11.1 ± 0.9 |" in table  # 10.2 and 12
    submitted = json.loads((tmp_path / "sweep/evalai_3_shot.json").read_text())
    assert submitted == {n: {"3": [TRUTH], "30": [TRUTH]} for n in ("pothole", "Packages")}


def test_all_data(sweep, pretended):
    sweep("--shots", "0,all", "--only", "pothole", "--keep-weights")
    assert [("--tune" in command) for command in pretended] == [False, True, False]
    assert "dataloader.train.datasets=[['odinw_pothole_train',1]]" in pretended[1]
    assert "train.patience.stop=4" in pretended[1]


def test_several_modes(sweep, pretended, tmp_path):
    table = sweep(
        "--shots", "0,3", "--seeds", "3,30", "--only", "pothole", "--mode", "full,prompt"
    )  # fmt: skip
    assert len(pretended) == 9  # zero-shot once
    folder = tmp_path / "sweep/prompt_3_shot_seed30/pothole"
    training, evaluation = (c for c in pretended if f"train.output_dir={folder}" in " ".join(c))
    for words in (training, evaluation):  # a tuned prompt has the name of its training set
        assert words[words.index("--mode") + 1] == "prompt"
        assert "dataloader.train.datasets=[['odinw_pothole_fewshot_train_shot3_seed30',4]]" in words
    assert not any("--mode" in c for c in pretended[:5])
    rows = [[word.strip() for word in line.split("|")[2:5]] for line in table.splitlines()[2:]]
    assert rows[::2] == [["-", "0", "test"], ["full", "3", "test"], ["prompt", "3", "test"]]
    assert {p.name for p in (tmp_path / "sweep").glob("evalai_*")} == {
        "evalai_zero_shot.json", "evalai_3_shot.json", "evalai_prompt_3_shot.json",
    }  # fmt: skip


def test_missing_data(sweep, pretended, odinw_root, tmp_path, capsys):
    with tree.catalogs_at(tmp_path), pytest.raises(DataError, match="pothole_val: there is no"):
        sweep("--allow-missing", "--only", "pothole")
    with pytest.raises(DataError, match=r"(?s)not on the disk:\n  Aquarium: .*--allow-missing"):
        sweep("--shots", "all", "--only", "Aquarium,pothole")
    assert not pretended and not (tmp_path / "sweep").exists()
    sweep("--shots", "all", "--only", "Aquarium,pothole", "--allow-missing")
    assert len(pretended) == 2
    assert "Going on with 1 of 2 runs" in capsys.readouterr().out


def test_bad_input(sweep, pretended):
    with pytest.raises(ConfigError, match="ODinW-13 has no data set 'BCCD'"):
        sweep("--only", "BCCD")
    with pytest.raises(ConfigError, match="'fish' is no override"):
        sweep("fish")
    with pytest.raises(click.BadParameter, match="'2' is none of 0, 1, 3, 5, 10, all"):
        sweep("--shots", "0,2")
    with pytest.raises(running.RunFailed, match=r"(?s)status 3; .*evaluation.txt:.*bad news"):
        sweep("--only", "pothole", "fail=yes")
    with pytest.raises(ConfigError, match=r"another sweep \(overrides \['fail=yes'\], now \[\]\)"):
        sweep("--only", "pothole")


def test_real_runs(sweep, tiny_weights, monkeypatch, tmp_path):
    """Zero-shot and fine-tuned, through the code of `glip train` in this process."""
    folder = tmp_path / "tiny_data"
    folder.mkdir()
    write_tiny_data(folder, images=2)
    monkeypatch.setenv("TINY_DATA", str(folder))  # of the config; it is neither trained nor tested
    commands = []

    def execute(arguments, log):
        commands.append(list(arguments))
        log.touch()
        return main(["train", *arguments])

    monkeypatch.setattr(running, "execute", execute)
    monkeypatch.setattr(training, "launch_training", lambda args: training.main(args) or 0)
    table = sweep(
        "--shots", "0,3", "--seeds", "30", "--only", "pothole", "--epochs", "2",
        "--keep-weights", "evaluation.num_workers=0", "dataloader.train.num_workers=0",
        "dataloader.train.mapper.augmentations=[]",
    )  # fmt: skip
    assert len(commands) == 3
    rows = [line.split("|")[2:5] for line in table.splitlines()[2:]]
    settings = (("-", 0, "test"), ("-", 0, "val"), ("full", 3, "test"), ("full", 3, "val"))
    assert rows == [[f" {word} " for word in setting] for setting in settings]
    trained = tmp_path / "sweep/3_shot_seed30/pothole/training"
    best, last = (read_checkpoint(trained / f"model_{n}.pth") for n in ("best", "final"))
    assert last["iteration"] == 3  # two epochs of two images, four copies, batches of four
    frozen = "backbone.bottom_up.patch_embed.proj.weight"
    started = read_checkpoint(tiny_weights)["model"]
    assert torch.equal(best["model"][frozen], started[frozen])
    assert "ema" not in best
