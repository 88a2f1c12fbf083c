"""The ONNX files give in onnxruntime what the model gives in PyTorch."""

import pytest
import torch

from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.errors import ExportError
from glipv2_d2.export import ExportedGLIP, check_export, export_glip, graphs
from glipv2_d2.export.onnx_format import save_onnx
from tests.support.exported_model import (
    INFERENCE,
    NAMES,
    ODD_SIZES,
    SIZES,
    assert_same_detections,
    image,
    inputs,
    mask_inputs,
    padded,
)

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def run(path, names, tensors):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {n: t.numpy() for n, t in zip(names, tensors)})
    return [torch.from_numpy(x) for x in found]


@torch.no_grad()
def test_text(source_model, tmp_path):
    path = graphs.TextPath(source_model)
    file = tmp_path / "text.onnx"
    save_onnx(graphs.export_text_path(source_model), file, graphs.TEXT_INPUTS, graphs.TEXT_OUTPUTS)
    for batch, tokens in ((1, 3), (3, 1), (3, 30)):
        ids = torch.randint(1000, 2000, (batch, tokens), generator=torch.Generator().manual_seed(0))
        mask = torch.ones(batch, tokens, dtype=torch.bool)
        mask[0, max(1, tokens - 2) :] = False
        (words,) = run(file, graphs.TEXT_INPUTS, (ids, mask))
        torch.testing.assert_close(words, path(ids, mask), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_masks(telling, mask_program, tmp_path):
    file = tmp_path / "mask.onnx"
    save_onnx(mask_program, file, graphs.MASK_INPUTS, graphs.MASK_OUTPUTS)
    for boxes in (1, 5):
        tensors = mask_inputs(boxes)
        (masks,) = run(file, graphs.MASK_INPUTS, tensors)
        expected = graphs.MaskPath(telling)(*tensors)
        torch.testing.assert_close(masks, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_image_and_text(source_model, traced, tmp_path):
    folder = export_glip(source_model, tmp_path / "x", format="onnx", inference=INFERENCE)
    for size in SIZES + ODD_SIZES:
        expected = graphs.ImagePath(source_model)(*padded(*inputs(*size)))
        found = run(folder / "image.onnx", graphs.IMAGE_INPUTS, inputs(*size))
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    loaded = ExportedGLIP(folder)
    assert max(check_export(source_model, loaded).values()) < 1e-4
    (found,), (expected,) = (
        GroundingPredictor(m, **INFERENCE)(image(120, 90), NAMES) for m in (loaded, source_model)
    )
    assert_same_detections(found, expected)


def test_an_operator_without_translation_is_named(tmp_path):
    class Unusual(torch.nn.Module):
        def forward(self, x):
            return torch.ops.aten.igamma.default(x, x)

    program = torch.export.export(Unusual(), (torch.ones(2, 3),))
    with pytest.raises(ExportError, match="cannot write ONNX: .*igamma"):
        save_onnx(program, tmp_path / "x.onnx", ["words"], ["y"])
