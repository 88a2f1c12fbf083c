"""`glip few-shot`: its data and runs with made-up results, and real runs that are killed."""

import csv
import json
import os
import runpy
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from glip_commands.main import main
from glipv2_d2.cli.sweep import running
from glipv2_d2.data.few_shot import few_shot_records
from glipv2_d2.engine import training
from glipv2_d2.engine.trainer import GLIPTrainer
from tests.support import detection_exports
from tests.support.benchmark_tree import catalogs_put_back
from tests.support.tiny_data import CONFIG, NAMES, write_tiny_data

QUICK = (
    "evaluation.num_workers=0", "dataloader.train.num_workers=0",
    "dataloader.train.mapper.augmentations=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny_json(tmp_path_factory):
    """A json of five images, with boxes of three classes in four of them."""
    folder = tmp_path_factory.mktemp("tiny_data")
    write_tiny_data(folder, images=5)
    return folder / "tiny.json"


@pytest.fixture
def few_shot(tiny_json, tiny_weights, tmp_path, monkeypatch):
    """few_shot(*arguments) -> the exit status; one task by default."""
    monkeypatch.setenv("TINY_DATA", str(tiny_json.parent))

    def run(*arguments, output="sweep"):
        fixed = ["--config-file", str(CONFIG), "--weights", str(tiny_weights), "--num-gpus", "0"]
        task = [] if "--data" in arguments else ["--data", "pets", *[str(tiny_json)] * 3]
        return main(["few-shot", *fixed, *task, "--output", str(tmp_path / output), *arguments])

    return run


@pytest.fixture
def before(tiny_json, tmp_path):
    """Arguments: the same images with other classes are what the model could do before."""
    other, register = tmp_path / "other.json", tmp_path / "mine.py"
    other.write_text(tiny_json.read_text().replace("green star", "star"))
    register.write_text(
        "from glipv2_d2.data import register_coco_dataset\n"
        f"register_coco_dataset('before', {str(other)!r}, {str(tiny_json.parent)!r})\n"
    )
    return "--old", "before", "--register", str(register)


@pytest.fixture
def made_up(monkeypatch):
    """`glip train` leaves an AP that grows with the shots and the seed; returns its commands."""
    commands = []

    def execute(arguments, log):
        commands.append(list(arguments))
        values = dict(text.split("=", 1) for text in arguments if "=" in text)
        folder = Path(values["train.output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        if "--eval-only" in arguments:
            ap = 10.0 * ("_shot_seed" in str(folder)) + ("seed30/" in str(folder))
            old = arguments[arguments.index("--old") + 1].split(",") if "--old" in arguments else ()
            values = {"test": ap, values["evaluation.val"]: ap + 1} | dict.fromkeys(old, 50 - ap)
            results = {name: {"bbox": {"AP": v, "AP50": v + 20}} for name, v in values.items()}
            (folder / "last_results.json").write_text(json.dumps(results))
        else:
            (folder / "model_best.pth").touch()
        return 0

    monkeypatch.setattr(running, "execute", execute)
    return commands


def test_subsets_runs_and_tables(few_shot, made_up, tiny_json, tmp_path, capsys):
    assert few_shot("--shots", "0,1,3", "--seeds", "3,30", "--mode", "full,head") == 0
    assert len(made_up) == 1 + 2 * 2 * 2 * 2
    printed = capsys.readouterr().out
    assert "pets_train: fewer than 3 images have: green star (2)" in printed
    files = sorted(path.name for path in (tmp_path / "sweep/data/pets").iterdir())
    assert files[0] == "fewshot_train_shot1_seed3.json" and len(files) == 8
    content = json.loads((tmp_path / "sweep/data/pets/fewshot_val_shot1_seed30.json").read_text())
    records = few_shot_records(DatasetCatalog.get("pets_val"), 1, 30)
    assert [image["id"] for image in content["images"]] == [r["image_id"] for r in records]
    assert [category["name"] for category in content["categories"]] == list(NAMES)
    training = made_up[1]
    assert "dataloader.train.datasets=[['pets_fewshot_train_shot1_seed3',8]]" in training
    assert "dataloader.test.dataset='pets_fewshot_val_shot1_seed3'" in training
    # What each process of a run registers.
    register = Path(training[training.index("--register") + 1])
    assert register == tmp_path / "sweep/data_sets.py"
    assert str(tmp_path / "sweep/data/pets/fewshot_train_shot3_seed30.json") in register.read_text()

    table = (tmp_path / "sweep/table.md").read_text().splitlines()
    assert table[0] == "| Model | Tune | Shot | Split | pets | Avg |"
    assert table[2] == "| tiny_train | - | 0 | test | 0.0 | 0.0 |"
    assert "| tiny_train | head | 3 | test | 10.5 ± 0.5 | 10.5 ± 0.5 |" in table
    averages = (tmp_path / "sweep/averages.md").read_text().splitlines()
    assert averages[0] == "| Tune | Split | 0 | 1 | 3 |"
    assert averages[2] == "| full | test | 0.0 | 10.5 ± 0.5 | 10.5 ± 0.5 |"
    assert (tmp_path / "sweep/averages.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "sweep/runs.csv").open()))
    assert len(rows) == 9 and rows[-1]["tune"] == "head" and rows[-1]["test"] == "11.0"


def test_what_is_forgotten(few_shot, made_up, before, tmp_path):
    arguments = ("--shots", "0,1", "--seeds", "3", *before)
    assert few_shot(*arguments, "--metric", "AP50") == 0
    assert all(c[c.index("--old") + 1] == "before" for c in made_up if "--eval-only" in c)
    assert not any("--old" in c for c in made_up if "--eval-only" not in c)
    averages = (tmp_path / "sweep/averages.md").read_text().splitlines()
    assert averages[2:] == [
        "| full | test | 20.0 | 30.0 ± 0.0 |",
        "| full | before | 70.0 | 60.0 ± 0.0 |",
    ]
    # Another metric of the same runs; other data are another sweep.
    assert few_shot(*arguments, "--metric", "AP") == 0 and len(made_up) == 3
    assert "| full | before | 50.0 | 40.0 ± 0.0 |" in (tmp_path / "sweep/averages.md").read_text()


def test_replay_and_merging(few_shot, made_up, before, monkeypatch, tmp_path):
    """Half of what is trained on is replayed; a tuned prompt, which leaves the base as it is, has
    neither."""
    monkeypatch.setattr(running, "weights_of", lambda path, _: {"head.x": torch.ones(2)})
    arguments = ("--shots", "0,3", "--seeds", "3", "--mode", "full,prompt", *before)
    assert few_shot(*arguments, "--replay", "before", "--merge", "0.25,0.5") == 0
    full, prompt = ([w for w in c if w.startswith("dataloader.train.datasets")][0]
                    for c in made_up if "--tune" in c)  # fmt: skip
    own = len(DatasetCatalog.get("pets_fewshot_train_shot3_seed3")) * 4
    entries = json.loads(full.split("=", 1)[1].replace("'", '"'))
    assert entries[0] == ["pets_fewshot_train_shot3_seed3", 4] and entries[1][0] == "before"
    assert entries[1][1] * len(DatasetCatalog.get("before")) == pytest.approx(own)
    assert "before" not in prompt
    periods = [next(w for w in c if "eval_period" in w) for c in made_up if "--tune" in c]
    epochs = [-(-images // 4) for images in (2 * own, own)]  # of four images a step
    assert periods == [f"train.eval_period={steps}" for steps in epochs]
    assert sum("--eval-only" in c for c in made_up) == 1 + 3 + 1
    lines = (tmp_path / "sweep/averages.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        *["| full"] * 2, *["| full, alpha 0.25"] * 2, *["| full, alpha 0.5"] * 2, *["| prompt"] * 2
    ]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "sweep/runs.csv").open()))
    assert [row["tune"] for row in rows] == [
        "-", "full", "full, alpha 0.25", "full, alpha 0.5", "prompt",
    ]  # fmt: skip
    assert not (tmp_path / "sweep/3_shot_seed3/pets/training/merged.pth").exists()


def test_seconds_of_a_run_that_was_killed(few_shot, made_up, monkeypatch, tmp_path):
    """Those of both attempts, the first up to its last log line."""
    done = running.execute

    def killed(arguments, log):
        log.touch()
        later = log.stat().st_mtime + 1000
        os.utime(log, (later, later))
        raise Killed

    for execute in (killed, killed):
        monkeypatch.setattr(running, "execute", execute)
        with pytest.raises(Killed):
            few_shot("--shots", "0")
    monkeypatch.setattr(running, "execute", done)
    assert few_shot("--shots", "0") == 0
    (row,) = csv.DictReader((tmp_path / "sweep/runs.csv").open())
    assert 2000 <= float(row["seconds"]) < 2100
    assert not list((tmp_path / "sweep/zero_shot/pets").glob("clock*"))


def test_several_tasks_and_all_data(few_shot, made_up, tiny_json, tmp_path, capsys):
    tasks = ("--data", "a", *[str(tiny_json)] * 3, "--data", "b", "a_train", "a_val", "a_test")
    assert few_shot(*tasks, "--shots", "2,all", "--seeds", "7", "--only-files") == 0
    assert not made_up
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "2_shot_seed7 a", "2_shot_seed7 b", "all_data a", "all_data b",
    ]  # fmt: skip
    assert (
        few_shot(*tasks, "--shots", "2,all", "--seeds", "7", "--images", str(tiny_json.parent)) == 0
    )
    trained = [t for c in made_up if "--tune" in c for t in c if t.startswith("dataloader.train.d")]
    assert trained == [
        "dataloader.train.datasets=[['a_fewshot_train_shot2_seed7',8]]",
        "dataloader.train.datasets=[['b_fewshot_train_shot2_seed7',8]]",
        "dataloader.train.datasets=[['a_train',1]]",
        "dataloader.train.datasets=[['a_train',1]]",
    ]
    table = (tmp_path / "sweep/table.md").read_text().splitlines()
    assert table[4] == "| tiny_train | full | All | test | 0.0 | 0.0 | 0.0 |"


@pytest.mark.parametrize("write", [detection_exports.voc, detection_exports.roboflow_yolo])
def test_data_in_any_format(few_shot, write, tmp_path):
    (tmp_path / "export").mkdir()
    export = str(write(tmp_path / "export"))
    assert few_shot("--data", "parts", *[export] * 3, "--shots", "2", "--only-files") == 0
    registered = runpy.run_path(tmp_path / "sweep/data_sets.py")  # as each run does
    assert registered and "parts_train" in DatasetCatalog
    paths = {}
    for name in ("parts_val", "parts_fewshot_val_shot2_seed3"):
        records = DatasetCatalog.get(name)
        assert MetadataCatalog.get(name).thing_classes == detection_exports.NAMES
        paths[name] = [Path(r["file_name"]).resolve() for r in records if r["annotations"]]
        assert all(path.is_file() for path in paths[name])
    whole, few = paths.values()
    assert few == whole and few


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "a/b", "x", "x", "x"), "the name of a task is that of a folder"),
        (("--data", "a", "gone.json", "x", "x"), "neither a data set nor a file 'gone.json'"),
        (("--old", "gone"), "there is no data set 'gone': register it"),
        (("--replay", "gone"), "there is no data set 'gone': register it"),
        (("--merge", "2"), "'2' is no fraction"),
        (("--shots", "some"), "'some' is no shots"),
        (("--shots", "-1"), "'-1' is no shots"),
        (("--mode", "half"), "'half' is none of full, head, linear, prompt, language"),
        (("fish",), "'fish' is no override"),
    ],
)
def test_bad_input(few_shot, arguments, message, capsys):
    assert few_shot(*arguments) == 2
    assert message in capsys.readouterr().err


def test_tasks_that_do_not_fit(few_shot, tiny_json, before, capsys):
    assert few_shot("--data", "a", str(tiny_json), str(tiny_json), "before", *before[2:]) == 2
    error = capsys.readouterr().err
    assert "the data sets of 'a' have other classes" in error and "'star'" in error
    twice = ("--data", "a", *[str(tiny_json)] * 3) * 2
    assert few_shot(*twice) == 2
    assert "each task has a name of its own; given: a, a" in capsys.readouterr().err


class Killed(BaseException):
    """Nothing is saved, and nothing is told."""


@pytest.mark.slow
def test_a_killed_sweep_ends_in_the_same_tables(few_shot, before, monkeypatch, tmp_path):
    """Through the code of `glip train` in this process; a tuned prompt changes nothing else."""
    steps, commands = [], []
    step = GLIPTrainer.run_step

    def execute(arguments, log):
        commands.append(list(arguments))
        log.touch()
        return main(["train", *arguments])

    def run_step(self):
        step(self)
        steps.append(self.iter)
        if len(steps) == killed_after:
            raise Killed

    monkeypatch.setattr(running, "execute", execute)
    monkeypatch.setattr(training, "launch_training", lambda args: training.main(args) or 0)
    monkeypatch.setattr(GLIPTrainer, "run_step", run_step)
    arguments = ("--shots", "0,5", "--seeds", "30", "--epochs", "2", "--mode", "prompt", *before)
    arguments += QUICK
    killed_after = 3
    with catalogs_put_back():
        with pytest.raises(Killed):
            few_shot(*arguments)
        killed_after = None
        assert few_shot(*arguments) == 0
    resumed = steps[3:]
    assert resumed[0] > 0  # it goes on
    assert sum("--eval-only" in c for c in commands) == 2  # what was finished is not repeated
    steps.clear()
    assert few_shot(*arguments, output="whole") == 0
    assert steps[-len(resumed) :] == resumed
    for name in ("table.md", "table.csv", "averages.md", "averages.csv"):
        texts = [(tmp_path / folder / name).read_text() for folder in ("sweep", "whole")]
        assert texts[0] == texts[1]

    def found(setting, name, folder="sweep"):
        evaluated = tmp_path / folder / setting / "pets/evaluation/inference"
        return (evaluated / name / "coco_instances_results.json").read_bytes()

    tuned = "prompt_5_shot_seed30"
    assert found(tuned, "test") == found(tuned, "test", "whole") != found("zero_shot", "test")
    assert found(tuned, "before") == found("zero_shot", "before")
    assert (tmp_path / "sweep" / tuned / "pets/training/prompt.safetensors").is_file()
