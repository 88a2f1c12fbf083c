"""Every example of a help page, in a folder that has its files: run, or until its work begins.

The models are tiny, whatever their names. What trains, traces or downloads is stopped where its
work begins: by then its options are read, its model is found and its config loaded.
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from glip_commands import command
from glip_commands.main import glip, main
from glipv2_d2 import model_zoo
from glipv2_d2.engine import training
from glipv2_d2.engine.setup import load_config
from tests.support import ROOT, benchmark_tree, detection_exports
from tests.support.documented import command_lines
from tests.support.tiny_data import write_tiny_data

RUN = {"detect", "ask", "caption", "inspect", "merge"}
UNDERSTANDING = ROOT / "tests/support/tiny_understanding_train.py"
OWN_CONFIG = f"""
from detectron2.config import LazyConfig
from glipv2_d2.data import register_coco_dataset

base = LazyConfig.load("{UNDERSTANDING}")
model, train, dataloader, inference = base.model, base.train, base.dataloader, base.inference
optimizer, lr_multiplier = base.optimizer, base.lr_multiplier
register_coco_dataset("my_train", "birds/tiny.json", "birds")
"""
EXAMPLES = {
    name: list(command_lines(page.help or "")) for name, page in sorted(glip.commands.items())
}


def whole(words):
    """A shortened example with what the first one of its command says in place of the dots."""
    if "..." not in words:
        return words
    first = EXAMPLES[words[0]][0]
    return [*first, *(word for word in words[1:] if word != "...")]


@pytest.fixture
def furnished(mdetr_json, understanding_weights, tmp_path, monkeypatch):
    """The working directory of the examples; all published models are the tiny one."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (80, 64), "gray").save("photo.jpg")
    (tmp_path / "birds").mkdir()
    write_tiny_data(tmp_path / "birds")
    monkeypatch.setenv("TINY_DATA", str(tmp_path / "birds"))
    (tmp_path / "my_config.py").write_text(OWN_CONFIG)
    mdetr_json.rename("captions.json")
    detection_exports.roboflow_yolo(tmp_path / "export")
    (tmp_path / "output").mkdir()
    files = {name: f"{name}.safetensors" for name in model_zoo.names()}
    for name, file in files.items():
        published = model_zoo._MODELS[name]
        tiny = dataclasses.replace(published, config=str(UNDERSTANDING), file=file)
        monkeypatch.setitem(model_zoo._MODELS, name, tiny)
    for file in ("my.safetensors", "output/tuned.safetensors"):
        (tmp_path / file).symlink_to(understanding_weights)
    torch.save({"model": load_file(understanding_weights)}, tmp_path / "output/model_final.pth")
    for file in files.values():
        (tmp_path / file).symlink_to(understanding_weights)
    monkeypatch.setenv("GLIP_WEIGHTS", str(tmp_path))
    benchmark_tree.coco(tmp_path / "datasets")
    with benchmark_tree.catalogs_at(tmp_path / "datasets"):
        yield


@pytest.fixture
def begun(monkeypatch):
    """What the commands that are not run were about to do."""
    seen = []
    stub = SimpleNamespace(run=lambda args: seen.append(args) or 0)
    monkeypatch.setattr(command, "import_module", lambda name: stub)

    def launch(args, *_):
        load_config(args)
        return stub.run(args)

    monkeypatch.setattr(training, "launch_training", launch)
    return seen


def test_every_command_has_an_example():
    assert {name for name, lines in EXAMPLES.items() if not lines} == {
        "doctor",
        "install-detectron2",
    }


@pytest.mark.parametrize(
    "words", [w for name in sorted(RUN) for w in EXAMPLES[name] if "--curve" not in w], ids=" ".join
)
def test_an_example_runs(words, furnished, capsys):
    assert main(words) == (1 if "--against" in words else 0)  # where the same images are in both
    assert "error:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [w for name in EXAMPLES for w in EXAMPLES[name] if name not in RUN or "--curve" in w],
    ids=" ".join,
)
def test_the_work_of_an_example_begins(words, furnished, begun):
    assert main(whole(words)) == 0
    assert len(begun) == 1
