"""Every command of docs/evaluation.md, with a tiny model on small files in the real formats."""

import json
import re
import shlex
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from glip_commands.main import main
from glip_commands.train import parse
from glipv2_d2.cli.sweep import running
from glipv2_d2.engine.setup import load_config
from tests.support import ROOT
from tests.support import benchmark_tree as tree
from tests.support.tiny_data import CONFIG, write_tiny_data

PAGE = (ROOT / "docs/evaluation.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
RECIPES = {path.name for path in (ROOT / "configs/eval").glob("*.py")}
# Appended, so that a command takes seconds.
SHORT = {
    "eval": ["evaluation.num_workers=0"],
    "--tune": ["evaluation.num_workers=0", "train.max_iter=1", "dataloader.train.num_workers=0",
               "dataloader.train.mapper.augmentations=[]"],
    "train.eval_period=5000": ["evaluation.num_workers=0", "train.max_iter=1"],
    "output/odinw13": ["--only", "Aquarium,pothole", "evaluation.num_workers=0"],
    "output/odinw13_tuned": ["--only", "pothole", "--seeds", "3", "--epochs", "1",
                             "evaluation.num_workers=0", "dataloader.train.num_workers=0",
                             "dataloader.train.mapper.augmentations=[]"],
    "output/pets": ["--only-files"],
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    for make in (tree.coco, tree.lvis, tree.flickr30k, tree.refcoco, tree.phrasecut, tree.odinw,
                 tree.karpathy, tree.questions):  # fmt: skip
        make(root)
    tree.without_truth(root)
    few_shot = ["fewshot_train_shot3_seed3", "fewshot_val_shot3_seed3"]
    tree.odinw(root, ["pothole"], few_shot, count=2)
    with tree.catalogs_at(root):
        yield root


def named(argument, weights, folder):
    """An argument with the tiny model, its weights and a folder of the test in the page's place."""
    argument = re.sub(r"^configs/pretrain/glip_t(_a)?\.py$", str(CONFIG), argument)
    if argument.startswith(("configs/vqa/", "configs/captioning/")):
        argument = str(CONFIG.with_name("tiny_understanding_train.py"))
    argument = re.sub(r"(^|=)glip(v2)?_\w+\.pth$", rf"\g<1>{weights}", argument)
    if argument.endswith(".yaml"):
        definitions = weights.with_name("definitions.yaml")
        definitions.write_text("pothole: {clean_name: pothole, def_wiki: A hole., gpt3: [Deep.]}")
        argument = f"{argument.split('=')[0]}={definitions}"
    return re.sub(r"(^|=)output/.*", rf"\g<1>{folder}", argument)


def identity(command):
    recipe = next((a for a in command if a.startswith("configs/eval/")), "")
    return "-".join([command[1].split("/")[-1], recipe, command[-1]])


@pytest.mark.parametrize("command", COMMANDS, ids=identity)
def test_a_command_of_the_page(
    command, data, tiny_weights, understanding_weights, tiny_data, tmp_path, monkeypatch, caplog,
    capsys,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program"])
    caplog.set_level("INFO")

    from glipv2_d2.engine import training

    def execute(arguments, log):
        log.touch()
        return main(["train", *arguments])

    monkeypatch.setattr(running, "execute", execute)
    monkeypatch.setattr(training, "launch_training", lambda args: training.main(args) or 0)
    glip, program, *rest = command
    assert glip == "glip"
    short = next(more for mark, more in SHORT.items() if mark in command)
    of_v2 = any(argument.startswith("glipv2_") for argument in rest)
    weights = understanding_weights if of_v2 else tiny_weights
    arguments = [named(a, weights, tmp_path / "output") for a in rest] + short
    if program == "few-shot":  # its runs are those of odinw
        Path("pets/images").mkdir(parents=True)
        write_tiny_data(Path("pets/images"))
        for split in ("train", "val", "test"):
            shutil.copy("pets/images/tiny.json", f"pets/{split}.json")
        assert main([program, *arguments]) == 0
        assert capsys.readouterr().out.endswith("\nprompt_all_data pets\n")
        return
    if program == "odinw":
        assert main(["odinw", *arguments]) == 0
        assert "\n| Model | Tune | Shot | Split | PascalVOC |" in capsys.readouterr().out
        return
    if "train.output_dir" not in " ".join(rest):
        arguments.append(f"train.output_dir={tmp_path / 'output'}")
    recipe = ROOT / arguments[arguments.index("--eval") + 1] if "--eval" in arguments else None
    if recipe:
        arguments[arguments.index("--eval") + 1] = str(recipe)
    else:
        arguments[arguments.index("--tune") + 1] = str(ROOT / "configs/finetune/odinw.py")
    assert main([program, *arguments]) == 0
    if rest[-1].endswith("vqav2_test-dev"):
        check_answers(tmp_path / "output", caplog.text)
        return
    if rest[-1].endswith("captions_test"):
        check_captions(tmp_path / "output", caplog.text)
        return
    if (recipe and recipe.name == "coco_test_dev.py") or rest[-1].endswith("test_dev"):
        check_submission(tmp_path / "output", caplog.text)
        return
    results = json.loads((tmp_path / "output/last_results.json").read_text())
    assert results
    if recipe and "odinw" in recipe.name:
        suite = recipe.stem.removeprefix("odinw")
        assert f"ODinW-{suite}:\nShot" in caplog.text
        page = (tmp_path / "output/results.md").read_text()
        assert "| 0 | test |" in page and "| 0 | val |" in page
        assert len(results) == 2 * int(recipe.stem.removeprefix("odinw"))


def check_submission(folder, log):
    """The file of a test set without annotations: ids as in the json, and no AP anywhere."""
    assert not (folder / "last_results.json").exists()
    zipped = folder / "inference/bbox/detections_test-dev2017_glip-t_results.zip"
    path = zipped if zipped.exists() else folder / "inference/lvis_instances_results.json"
    assert f"no AP can be computed here. The predictions on its 2 images are in {path}" in log
    rows = json.loads(zipped_json(path) if zipped.exists() else path.read_text())
    assert {row["image_id"] for row in rows} == {581, 582}
    largest = 90 if path == zipped else 1203
    assert {type(row["category_id"]) for row in rows} == {int}
    assert 80 < max(row["category_id"] for row in rows) <= largest
    assert all(len(row["bbox"]) == 4 and 0 <= row["score"] <= 1 for row in rows)


def zipped_json(path):
    """Of the one file in it, which is called like the zip."""
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{path.stem}.json"]
        return archive.read(f"{path.stem}.json")


def check_answers(folder, log):
    """The file of questions without answers, as VQA's server takes it."""
    assert not (folder / "last_results.json").exists()
    path = folder / "inference/vqav2_test-dev_results.json"
    assert "no accuracy can be computed here" in log and f"are in {path}" in log
    rows = json.loads(path.read_text())
    assert [row["question_id"] for row in rows] == [262148000, 262148001]
    assert all(row.keys() == {"question_id", "answer"} for row in rows)


def check_captions(folder, log):
    """The file of images without captions, as COCO's server takes it."""
    assert not (folder / "last_results.json").exists()
    assert "has no reference captions: its 2 captions are in" in log
    path = folder / "inference/coco_2014_captions_test_predictions.json"
    rows = json.loads(path.read_text())
    assert [row["image_id"] for row in rows] == [581, 582]
    assert all(row.keys() == {"image_id", "caption"} for row in rows)


def test_every_recipe_is_on_the_page():
    used = {argument.split("/")[-1] for command in COMMANDS for argument in command}
    # These are the sweep's own, and of docs/open_world_presence.md.
    assert RECIPES - {"odinw.py", "scenes_absent.py"} <= used


def test_a_recipe_of_ones_own(tiny_data, tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "my_recipe.py").write_text(code)
    with tree.catalogs_at(tmp_path):
        options = ["--config-file", str(CONFIG), "--eval", str(tmp_path / "my_recipe.py")]
        config = load_config(parse([*options, "--eval-only"]))
    assert config.dataloader.test.dataset == config.dataloader.evaluator.dataset_name == "my_val"
