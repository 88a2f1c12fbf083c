"""Each example of docs/extending.md works as it is printed, for code outside this package."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from glipv2_d2.config import get_config
from glipv2_d2.data import GROUNDING_FORMATS
from glipv2_d2.evaluation import EVALUATORS
from glipv2_d2.language import NOUN_PHRASE_EXTRACTORS, Prompt
from glipv2_d2.modeling import LANGUAGE_BACKBONE_REGISTRY
from tests.support.benchmark_predictions import instances
from tests.support.tiny import tiny_input, tiny_question

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = (
    "A data format",
    "A task head",
    "A backbone",
    "A language backbone",
    "A phrase extractor",
    "An evaluator",
)


def code_of(title):
    """(language, text) of each block of code under a heading."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Somebody's folder, with the blocks of a section as files; returns a function of its title.

    That returns the blocks which are no file.
    """
    for registry in (
        GROUNDING_FORMATS,
        EVALUATORS,
        LANGUAGE_BACKBONE_REGISTRY,
        NOUN_PHRASE_EXTRACTORS,
    ):
        monkeypatch.setattr(registry, "_obj_map", dict(registry._obj_map))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my" / "images").mkdir(parents=True)
    Image.new("RGB", (80, 60), "red").save(tmp_path / "my" / "images" / "kite.png")
    before = set(sys.modules)

    def write(title):
        importlib.invalidate_caches()
        loose = []
        for language, text in code_of(title):
            named = re.match(r"# (my_\w+\.py)\n", text)
            if named:
                (tmp_path / named[1]).write_text(text, encoding="utf-8")
            elif language == "csv":
                (tmp_path / "my" / "boxes.csv").write_text(text, encoding="utf-8")
            else:
                loose.append(text)
        return loose

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def run(text):
    names: dict = {}
    exec(compile(text, "docs/extending.md", "exec"), names)
    return names


def test_a_data_format(project, caplog):
    (by_hand,) = project("A data format")
    names = run(by_hand)
    made = names["model_input"]
    assert made["prompt"].names == ("red kite", "dog")
    assert made["instances"].gt_classes.tolist() == [0, 1]
    assert made["instances"].gt_boxes.tensor.tolist() == [[8, 8, 40, 30], [30, 40, 70, 58]]
    told = "left out 1 annotation: 1 x unknown phrase (first: my/boxes.csv, kite.png: 'cat' "
    assert told in caplog.text


def test_a_task_head(project):
    assert not project("A task head")
    model = instantiate(get_config("my_config.py").model)
    assert list(model.task_heads) == ["counts"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.counts.count.weight.detach().clone()
    losses = model([tiny_input()])
    sum(losses.values()).backward()
    optimizer.step()
    # Two of the three phrases have a box; the head knows nothing yet.
    assert 0.05 < losses["loss_count"] < 1.5
    assert not torch.equal(model.counts.count.weight, before)
    assert "counts.count.weight" in model.state_dict()


def test_a_language_backbone(project, tmp_path):
    assert not project("A language backbone")
    (tmp_path / "my" / "words.txt").write_text("cat dog red kite", encoding="utf-8")
    config = get_config("my_language_config.py")
    model = instantiate(config.model)
    losses = model([tiny_input()])
    assert all(torch.isfinite(loss) for loss in losses.values())
    tokens = model.tokenizer([Prompt.from_classes(["Red kite", "bird"])])
    assert tokens.input_ids.tolist() == [[3, 4, 0]]
    model.eval()
    with torch.no_grad():
        (output,) = model([tiny_question(model.tokenizer.split(["dog", "red kite"]))])
    assert output["instances"].image_size == (64, 96)
    assert type(instantiate(config.dataloader.test.mapper.tokenizer)) is type(model.tokenizer)


def test_a_backbone(project):
    assert not project("A backbone")
    model = instantiate(get_config("my_backbone_config.py").model)
    losses = model([tiny_input()])
    sum(losses.values()).backward()
    assert model.backbone.bottom_up.stages["res3"][0].weight.grad.abs().sum() > 0


def test_a_phrase_extractor(project, capsys):
    (by_hand,) = project("A phrase extractor")
    prompt = run(by_hand)["prompt"]
    assert prompt.names == ("red kite", "dog")
    assert [prompt.caption[a:b] for span in prompt.spans for a, b in span] == ["red kite", "dog"]


def test_an_evaluator(project, tmp_path):
    (by_hand,) = project("An evaluator")
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    image = {"id": 7, "file_name": "kite.png", "height": 60, "width": 80, "caption": "a red kite"}
    box = {"id": 1, "image_id": 7, "bbox": [40, 0, 40, 60], "tokens_positive": [[2, 10]]}
    content = {"images": [image], "annotations": [box]}
    (tmp_path / "my" / "val.json").write_text(json.dumps(content), encoding="utf-8")
    names = run(by_hand)
    found = names["model"]([next(iter(names["loader"]))[0]])[0]["instances"]
    right = len(found) > 0 and found.pred_boxes.get_centers()[0, 0] >= 40
    assert names["results"] == {"pointing": {"accuracy": 100.0 if right else 0.0}}
    evaluator = names["build_evaluator"]("my_val")
    boxes, scores = [(0, 0, 30, 30), (50, 10, 70, 30)], [0.4, 0.6]
    for count, accuracy in enumerate((0.0, 0.0, 100.0)):
        evaluator.reset()
        found = instances(boxes[:count], scores[:count], size=(60, 80))
        evaluator.process([{"image_id": 7}], [{"instances": found}])
        assert evaluator.evaluate() == {"pointing": {"accuracy": accuracy}}


def test_every_example_is_run():
    assert re.findall(r"^## (.*)$", PAGE, re.M) == [*EXAMPLES, "A weight format"]
    for title in EXAMPLES:
        assert f"test_{title.lower().replace(' ', '_')}" in globals()
