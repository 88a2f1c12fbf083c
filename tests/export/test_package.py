"""From a model to a folder and back to detections."""

import copy
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from PIL import Image

from glip_commands.main import main
from glipv2_d2 import Prompt
from glipv2_d2.checkpoint import frozen_words, release_state, save_safetensors
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.errors import ExportError, PromptError, UsageError
from glipv2_d2.export import check_export, export_glip
from glipv2_d2.language.class_tokenizer import ParallelClassTokenizer
from glipv2_d2.modeling.text import TextFeatureCache
from tests.support.exported_model import INFERENCE, NAMES, assert_same_detections, image

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs" / "export.md").read_text()


def test_fixed_prompt(source_model, source_predictor, traced, image_read, tmp_path):
    prompts = source_model.tokenizer.split(NAMES, size=2)
    folder = export_glip(source_model, tmp_path / "fixed", prompts=prompts, inference=INFERENCE)
    assert not (folder / "text.pt2").exists()
    loaded = GroundingPredictor.from_export(folder)
    expected = source_predictor(image(64, 80), prompts[0])[0]
    assert_same_detections(loaded(image(64, 80), prompts[0])[0], expected)
    assert not (folder / "tokenizer").exists()
    with pytest.raises(PromptError, match="'zebra' is not in the fixed vocabulary.*ask for cat, r"):
        loaded(image(64, 80), ["zebra"])
    pixels = torch.from_numpy(image(64, 96).transpose(2, 0, 1).copy())
    with torch.no_grad():
        (found,) = loaded.model([{"image": pixels}])
        (expected,) = source_model([{"image": pixels, "prompt": prompts}])
    assert_same_detections(found["instances"], expected["instances"])
    assert check_export(source_model, loaded.model)["logits"] < 1e-4


def test_a_tuned_prompt(source_model, traced, image_read, tmp_path):
    model = copy.deepcopy(source_model)
    prompts = [replace(p, embedding_id="pets/0") for p in model.tokenizer.split(NAMES)]
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randn(int(model.tokenizer(prompts).mask.sum()), 32, generator=generator)
    model.prompt_embeddings.add("pets/0", offsets)
    folder = export_glip(model, tmp_path / "tuned", prompts=prompts, inference=INFERENCE)
    loaded = GroundingPredictor.from_export(folder)
    expected = GroundingPredictor(model, **INFERENCE)(image(64, 80), prompts)[0]
    assert_same_detections(loaded(image(64, 80), prompts)[0], expected)
    assert check_export(model, loaded.model)["logits"] < 1e-4
    with pytest.raises(ExportError, match="has tuned prompts.*--prompt FILE"):
        export_glip(model, tmp_path / "any")
    both = [*prompts, replace(prompts[0], embedding_id=None)]
    with pytest.raises(ExportError, match="two of the prompts read 'cat. red kite.*two exports"):
        export_glip(model, tmp_path / "both", prompts=both)


def test_what_cannot_be_exported(source_model, exported, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="exists already"):
        export_glip(source_model, exported)
    with pytest.raises(ExportError, match="'tflite'; choose one of torch, onnx, openvino"):
        export_glip(source_model, tmp_path / "x", format="tflite")
    with pytest.raises(ExportError, match="a caption is no fixed prompt"):
        export_glip(source_model, tmp_path / "x", prompts=[Prompt.unwritten()])
    with pytest.raises(UsageError, match="a whole number of names from 1, got 0"):
        export_glip(source_model, tmp_path / "x", inference={"shortlist": 0})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(ExportError, match="needs the package 'onnxscript'"):
            export_glip(source_model, tmp_path / "x", format="onnx")
    with monkeypatch.context() as patch:
        words = ParallelClassTokenizer(source_model.tokenizer.tokenizer)
        patch.setattr(source_model.language_backbone, "tokenizer", words)
        with pytest.raises(ExportError, match="of its own, ParallelClassTokenizer.*--prompt"):
            export_glip(source_model, tmp_path / "x")
    anchors = DefaultAnchorGenerator(sizes=[[8, 16]], aspect_ratios=[[1.0]], strides=[8])
    monkeypatch.setitem(source_model._modules, "anchor_generator", anchors)
    with pytest.raises(ExportError, match="one anchor per position"):
        export_glip(source_model, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(source_model, tmp_path, monkeypatch):
    def fails(*args):
        raise MemoryError

    monkeypatch.setattr("glipv2_d2.export.graphs.export_image_path", fails)
    with pytest.raises(MemoryError):
        export_glip(source_model, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_command_line(source_model, traced, image_read, tmp_path, capsys):
    weights = save_safetensors(
        release_state(source_model, torch.float32), tmp_path / "w.safetensors", {}
    )
    options = ["--config-file", "tests/support/small_detect.py", "--weights", str(weights)]
    folder = tmp_path / "x"
    asked = ["--output", str(folder), "--prompt", "cat, red kite", "--check"]
    asked += ["inference.phrase_threshold=0.3", "inference.phrases=rules"]
    assert main(["export", *options, *asked]) == 0
    out = capsys.readouterr().out
    assert "exported in" in out and "image.pt2" in out and "  logits: " in out
    manifest = json.loads((folder / "export.json").read_text())
    of_questions = {"phrase_threshold": 0.3, "phrases": "rules"}
    of_detections = {"min_size": 64, "max_size": 96, "score_threshold": 0.2}
    assert manifest["inference"] == of_detections | of_questions
    assert manifest["prompts"][0]["caption"] == "cat. red kite"
    assert main(["export", *options, *asked]) == 2
    assert "exists already" in capsys.readouterr().err


def test_weights_without_a_language_model(source_model, tmp_path, capsys):
    weights = save_safetensors(
        release_state(source_model, torch.float32), tmp_path / "w.safetensors", {}
    )
    options = ["--config-file", "tests/support/small_detect.py", "--weights", str(weights)]
    file = tmp_path / "frozen.safetensors"
    command = ["export", *options, "--format", "weights", "--output", str(file)]
    assert main(command) == 2
    assert "are for fixed names: give them (--prompt" in capsys.readouterr().err
    assert main([*command, "--prompt", "cat, red kite", "--check"]) == 0
    out = capsys.readouterr().out
    assert "frozen.safetensors (" in out and "  logits: 0.0e+00" in out
    assert main([*command, "--prompt", "cat, red kite"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_model_of_a_fixed_vocabulary_is_exported_with_it(
    source_model, source_predictor, traced, image_read, tmp_path
):
    prompts = source_model.tokenizer.split(NAMES)
    frozen = copy.copy(source_model)
    frozen._modules = {
        **source_model._modules, "language_backbone": frozen_words(source_model, prompts)
    }  # fmt: skip
    frozen.text_cache = TextFeatureCache(frozen.language_backbone)
    loaded = GroundingPredictor.from_export(
        export_glip(frozen, tmp_path / "x", inference=INFERENCE)
    )
    expected = source_predictor(image(64, 80), prompts)[0]
    assert_same_detections(loaded(image(64, 80), NAMES)[0], expected)


def test_the_page_s_program_finds_what_the_model_finds(
    exported, source_predictor, tmp_path, monkeypatch, capsys
):
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "ExportedModel(" in b)
    assert "glipv2_d2" not in code and "detectron2" not in code
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "exported").symlink_to(exported)
    pixels = image(120, 90, seed=1)
    # The page's photo is a JPEG; it is read by its content, so that nothing is lost here.
    Image.fromarray(pixels[..., ::-1]).save(tmp_path / "photo.jpg", format="png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # undoes what the program adds, too
    exec(compile(code, "docs/export.md", "exec"), {})
    printed = [line.partition(" at ")[0] for line in capsys.readouterr().out.splitlines()]
    expected = source_predictor(pixels, ["red star", "blue ring"])[0]
    named = zip(expected.pred_phrases, expected.scores.tolist())
    assert len(expected) and sorted(printed) == sorted(f"{name}: {s:.2f}" for name, s in named)
