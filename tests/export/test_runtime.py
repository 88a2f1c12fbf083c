"""An exported model in use, as the model itself."""

import pytest
import torch

from glipv2_d2 import Prompt
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.errors import ExportError, PromptError
from glipv2_d2.export import ExportedGLIP, export_glip
from tests.support.exported_model import INFERENCE, NAMES, assert_same_detections, image


@pytest.fixture
def from_files(loaded):
    return GroundingPredictor(loaded, **INFERENCE)


def test_detections_from_the_files_are_the_model_s(from_files, source_predictor, monkeypatch):
    for predict in (from_files, source_predictor):
        monkeypatch.setattr(predict, "batch_size", 2)
    images = [image(120, 90, seed=1), image(60, 200, seed=2), image(50, 50, seed=3)]
    caption = "a [red kite] above a [dog]"
    for prompt in (NAMES, caption, [Prompt.from_classes(NAMES), Prompt.parse(caption), NAMES]):
        for a, b in zip(from_files(images, prompt), source_predictor(images, prompt)):
            assert_same_detections(a, b)


def test_bf16_is_used_and_gives_nearly_the_same(loaded, source_model):
    found, exact = (
        GroundingPredictor(model, **INFERENCE, precision=precision)(image(120, 90), NAMES)[0]
        for model, precision in ((loaded, "bf16"), (source_model, "fp32"))
    )
    assert found.scores[0] != exact.scores[0]
    # 8 bits through some dozen layers.
    torch.testing.assert_close(found.scores[:5], exact.scores[:5], atol=0.03, rtol=0)


def test_a_vocabulary_in_chunks(from_files, source_predictor, monkeypatch):
    for predict in (from_files, source_predictor):
        monkeypatch.setattr(predict.model, "chunk_size", 2)
    assert_same_detections(
        from_files(image(64, 80), NAMES)[0], source_predictor(image(64, 80), NAMES)[0]
    )


def test_an_export_leaves_out_what_its_model_leaves_out(
    source_model, traced, image_read, tmp_path, monkeypatch
):
    monkeypatch.setattr(source_model.postprocessor, "detections_per_image", 3)
    monkeypatch.setattr(source_model, "min_score", 0.25)
    loaded = ExportedGLIP(export_glip(source_model, tmp_path / "few"))
    assert (loaded.postprocessor.detections_per_image, loaded.min_score) == (3, 0.25)


@torch.no_grad()
def test_a_caption_is_grounded_as_by_the_model(telling, loaded_telling):
    caption = Prompt.from_caption("a cat and a dog", [[(2, 5)], [(12, 15)]], kind="caption")
    pixels = torch.from_numpy(image(64, 96).transpose(2, 0, 1).copy())
    # Read as any sentence it is grounded in another way.
    sentence = Prompt.from_caption("a cat and a dog", caption.spans)
    inputs = [{"image": pixels, "prompt": prompt} for prompt in (caption, sentence)]
    (found, other), (expected, _) = loaded_telling(inputs), telling(inputs)
    assert_same_detections(found["instances"], expected["instances"])
    assert not torch.equal(found["instances"].scores[:5], other["instances"].scores[:5])


def test_a_caption_is_refused_by_an_export_without_a_caption_head(loaded):
    caption = Prompt.from_caption("a cat", [[(2, 5)]], kind="caption")
    pixels = torch.from_numpy(image(64, 96).transpose(2, 0, 1).copy())
    with pytest.raises(PromptError, match="does not read captions word by word"):
        loaded([{"image": pixels, "prompt": caption}])


def test_a_truncated_graph(exported, tmp_path):
    (tmp_path / "export.json").write_bytes((exported / "export.json").read_bytes())
    (tmp_path / "image.pt2").write_bytes((exported / "image.pt2").read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"image\.pt2' cannot be read"):
        ExportedGLIP(tmp_path)


def test_no_training(loaded):
    with pytest.raises(ExportError, match="cannot be trained"):
        loaded.train()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(exported, source_predictor):
    found = GroundingPredictor.from_export(exported, device="cuda")(image(120, 90), NAMES)[0]
    assert_same_detections(found, source_predictor(image(120, 90), NAMES)[0])
