"""From a model to a folder and back to detections."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from PIL import Image

from glip_commands.main import main
from glipv2_d2 import Prompt
from glipv2_d2.checkpoint import release_state, save_safetensors
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.errors import ExportError, PromptError
from glipv2_d2.export import ExportedGLIP, check_export, export_glip, load_exported
from glipv2_d2.export.graphs import export_image_path
from glipv2_d2.modeling.text.parallel_classes import ParallelClassTokenizer
from tests.export.conftest import INFERENCE

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs" / "export.md").read_text()
NAMES = ["cat", "red kite", "traffic light"]


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same_detections(found, expected):
    assert len(expected)
    assert list(found.pred_phrases) == list(expected.pred_phrases)
    assert found.image_size == expected.image_size
    torch.testing.assert_close(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
    boxes, expected_boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(boxes, expected_boxes, atol=1e-3, rtol=1e-4)


@pytest.fixture(scope="module")
def predictor(model):
    return GroundingPredictor(model, **INFERENCE)


@pytest.fixture
def from_files(loaded):
    return GroundingPredictor(loaded, **INFERENCE)


def test_detections_from_the_files_are_the_model_s(from_files, predictor, monkeypatch):
    for predict in (from_files, predictor):
        monkeypatch.setattr(predict, "batch_size", 2)
    images = [image(120, 90, seed=1), image(60, 200, seed=2), image(50, 50, seed=3)]
    caption = "a [red kite] above a [dog]"
    for prompt in (NAMES, caption, [Prompt.from_classes(NAMES), Prompt.parse(caption), NAMES]):
        for a, b in zip(from_files(images, prompt), predictor(images, prompt)):
            assert_same_detections(a, b)


def test_a_vocabulary_in_chunks(from_files, predictor, monkeypatch):
    for predict in (from_files, predictor):
        monkeypatch.setattr(predict.model, "chunk_size", 2)
    assert_same_detections(from_files(image(64, 80), NAMES)[0], predictor(image(64, 80), NAMES)[0])


@pytest.fixture
def image_read(loaded, monkeypatch):
    """Within it, a file with the image path is not read again."""
    graph = loaded.image_graph
    monkeypatch.setattr("glipv2_d2.export.runtime._torch_graph", lambda path, device: graph)


def test_fixed_prompt(model, predictor, traced, image_read, tmp_path):
    prompts = model.tokenizer.split(NAMES, size=2)
    folder = export_glip(model, tmp_path / "fixed", prompts=prompts, inference=INFERENCE)
    assert not (folder / "text.pt2").exists()
    loaded = load_exported(folder)
    expected = predictor(image(64, 80), prompts[0])[0]
    assert_same_detections(loaded(image(64, 80), prompts[0])[0], expected)
    with pytest.raises(PromptError, match="made for a fixed prompt"):
        loaded(image(64, 80), ["zebra"])
    pixels = torch.from_numpy(image(64, 96).transpose(2, 0, 1).copy())
    with torch.no_grad():
        (found,) = loaded.model([{"image": pixels}])
        (expected,) = model([{"image": pixels, "prompt": prompts}])
    assert_same_detections(found["instances"], expected["instances"])
    assert check_export(model, loaded.model)["logits"] < 1e-4


def test_the_manifest_says_what_a_program_needs(exported):
    manifest = json.loads((exported / "export.json").read_text())
    assert manifest["strides"] == [8, 16, 32, 64, 128]
    assert manifest["cell_anchors"][0] == [-32, -32, 32, 32]
    assert manifest["input_format"] == "BGR" and manifest["size_divisibility"] == 32
    assert manifest["inference"] == INFERENCE and manifest["words"] == "hidden"
    assert manifest["notes"]["torch"] == torch.__version__


def test_an_export_leaves_out_what_its_model_leaves_out(model, traced, tmp_path, monkeypatch):
    monkeypatch.setattr(model.postprocessor, "detections_per_image", 3)
    monkeypatch.setattr(model, "min_score", 0.25)
    loaded = ExportedGLIP(export_glip(model, tmp_path / "few"))
    assert (loaded.postprocessor.detections_per_image, loaded.min_score) == (3, 0.25)


def test_check_finds_a_model_with_other_weights(model, loaded):
    differences = check_export(model, loaded)
    assert set(differences) == {"logits", "deltas", "centerness"}
    assert max(differences.values()) < 1e-4
    with torch.no_grad():
        model.head.bias0.add_(0.01)
        try:
            with pytest.raises(ExportError, match=r"logits 1\.0e-02, deltas"):
                check_export(model, loaded)
        finally:
            model.head.bias0.sub_(0.01)


def test_what_cannot_be_exported(model, exported, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="exists already"):
        export_glip(model, exported)
    with pytest.raises(ExportError, match="'tflite'; choose one of torch, onnx"):
        export_glip(model, tmp_path / "x", format="tflite")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(ExportError, match="needs the package 'onnxscript'"):
            export_glip(model, tmp_path / "x", format="onnx")
    with monkeypatch.context() as patch:
        words = ParallelClassTokenizer(model.tokenizer.tokenizer)
        patch.setattr(model.language_backbone, "tokenizer", words)
        with pytest.raises(ExportError, match="of its own, ParallelClassTokenizer"):
            export_glip(model, tmp_path / "x")
    anchors = DefaultAnchorGenerator(sizes=[[8, 16]], aspect_ratios=[[1.0]], strides=[8])
    monkeypatch.setitem(model._modules, "anchor_generator", anchors)
    with pytest.raises(ExportError, match="one anchor per position"):
        export_glip(model, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    def fails(*args):
        raise MemoryError

    monkeypatch.setattr("glipv2_d2.export.graphs.export_image_path", fails)
    with pytest.raises(MemoryError):
        export_glip(model, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_an_old_pytorch_is_named(model, monkeypatch):
    import torch.fx.experimental._config as config

    monkeypatch.delattr(torch.compiler, "is_exporting")
    assert hasattr(config, "backed_size_oblivious")
    with pytest.raises(ExportError, match="newer PyTorch than"):
        export_image_path(model)


def test_folders_that_are_no_export(exported, tmp_path):
    with pytest.raises(ExportError, match=r"no export\.json"):
        ExportedGLIP(tmp_path)
    manifest = json.loads((exported / "export.json").read_text())
    for change, message in (
        ({"version": 2}, "of version 2"),
        ({"color": "blue"}, "is damaged"),
        ({}, r"image\.pt2' of the export is missing"),
    ):
        (tmp_path / "export.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ExportError, match=message):
            ExportedGLIP(tmp_path)
    (tmp_path / "export.json").write_text('{"version":')
    with pytest.raises(ExportError, match="is damaged"):
        ExportedGLIP(tmp_path)


def test_a_truncated_graph(exported, tmp_path):
    (tmp_path / "export.json").write_bytes((exported / "export.json").read_bytes())
    (tmp_path / "image.pt2").write_bytes((exported / "image.pt2").read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"image\.pt2' cannot be read"):
        ExportedGLIP(tmp_path)


def test_no_training(loaded):
    with pytest.raises(ExportError, match="cannot be trained"):
        loaded.train()


def test_masks_stay_behind(model, traced, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(model, "mask_head", object(), raising=False)
    export_glip(model, tmp_path / "x", prompts=[Prompt.from_classes(NAMES)])
    assert "mask head is not exported" in caplog.text


def test_command_line(model, traced, image_read, tmp_path, capsys):
    weights = save_safetensors(release_state(model, torch.float32), tmp_path / "w.safetensors", {})
    options = ["--config-file", "tests/support/tiny_detect.py", "--weights", str(weights)]
    overrides = ["model.neck.num_blocks=1", "model.neck.offset_rule=raw_memory"]
    folder = tmp_path / "x"
    asked = ["--output", str(folder), "--prompt", "cat, red kite", "--check"]
    assert main(["export", *options, *asked, *overrides]) == 0
    out = capsys.readouterr().out
    assert "exported in" in out and "image.pt2" in out and "  logits: " in out
    manifest = json.loads((folder / "export.json").read_text())
    assert manifest["inference"] == {"min_size": 64, "max_size": 96, "score_threshold": 0.2}
    assert manifest["prompts"][0]["caption"] == "cat. red kite"
    assert main(["export", *options, *asked, *overrides]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_page_s_program_finds_what_the_model_finds(
    exported, predictor, tmp_path, monkeypatch, capsys
):
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "nms" in block)
    assert "glipv2_d2" not in code and "detectron2" not in code
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "exported").symlink_to(exported)
    pixels = image(120, 90, seed=1)
    # The page's photo is a JPEG; it is read by its content, so that nothing is lost here.
    Image.fromarray(pixels[..., ::-1]).save(tmp_path / "photo.jpg", format="png")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with torch.no_grad():
        exec(compile(code, "docs/export.md", "exec"), names)
    expected = predictor(pixels, ["red star", "blue ring"])[0]
    best = names["keep"][: min(20, len(expected))]
    assert len(best) and capsys.readouterr().out
    # Scores alone are sorted: equal ones may come in any order.
    torch.testing.assert_close(
        names["scores"][best], expected.scores[: len(best)], atol=1e-5, rtol=1e-4
    )
    found, boxes = names["boxes"][best] / names["scale"], expected.pred_boxes.tensor
    distance = (found[:, None] - boxes).abs().amax(dim=-1).amin(dim=1)
    assert distance.max() < 0.6  # each side of the image is rounded to whole pixels by itself


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(exported, predictor):
    found = load_exported(exported, device="cuda")(image(120, 90), NAMES)[0]
    assert_same_detections(found, predictor(image(120, 90), NAMES)[0])
