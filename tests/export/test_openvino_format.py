"""The OpenVINO files give in OpenVINO what the model gives in PyTorch."""

import logging

import pytest
import torch

from glipv2_d2.errors import ExportError
from glipv2_d2.export import graphs, runtime
from glipv2_d2.export.openvino_format import save_openvino
from glipv2_d2.export.standalone import open_graph
from glipv2_d2.modeling.fusion.vl_tower import places_of
from glipv2_d2.modeling.precision import inference_autocast
from tests.support.exported_model import mask_inputs

pytest.importorskip("openvino")


@torch.no_grad()
def test_masks(telling, mask_program, tmp_path):
    file = tmp_path / "mask.xml"
    save_openvino(mask_program, file, graphs.MASK_INPUTS, graphs.MASK_OUTPUTS)
    for boxes in (1, 5):
        tensors = mask_inputs(boxes)
        graph, arrays = open_graph(file), [tensor.numpy() for tensor in tensors]
        (found,), (halved,) = graph(*arrays), graph(*arrays, precision="bf16")
        expected = graphs.MaskPath(telling)(*tensors)
        # Of logits of some units: sums in another order.
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
        # 8 bits: some hundredths of these logits after a dozen layers.
        torch.testing.assert_close(torch.from_numpy(halved), expected, atol=0.1, rtol=0.1)


def test_precision_of_the_predictor_is_that_of_the_graph(tmp_path, monkeypatch):
    asked = []

    def opened(path, cuda):
        return lambda x, precision="fp32": asked.append(precision) or [x]

    monkeypatch.setattr("glipv2_d2.export.runtime.open_graph", opened)
    graph = runtime._array_graph(tmp_path / "x.xml", "cpu")
    graph(torch.ones(1))
    with inference_autocast(torch.device("cpu"), "bf16"):
        graph(torch.ones(1))
        with pytest.raises(ExportError, match="ONNX exports run in fp32"):
            runtime._array_graph(tmp_path / "x.onnx", "cpu")(torch.ones(1))
    assert asked == ["fp32", "bf16"]


def test_positions_are_those_of_any_size(tmp_path):
    class Places(torch.nn.Module):
        def forward(self, x):
            return places_of([x, x[:, :, ::2, ::2]]) + x.mean()

    free = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(Places(), (torch.ones(1, 2, 6, 8),), dynamic_shapes=(free,))
    save_openvino(program, tmp_path / "x.xml", ["x"], ["y"])
    for x in (torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 10, 4)):
        (found,) = open_graph(tmp_path / "x.xml")(x.numpy())
        # Sines of angles of some tens.
        torch.testing.assert_close(torch.from_numpy(found), Places()(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_a_map_is_shrunk_as_by_pytorch(tmp_path, size):
    """To one position it took the first one, and small images were answered wrongly."""

    class Shrinks(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.interpolate(x, size=size, mode="bilinear")

    x, file = torch.arange(12.0).reshape(1, 1, 3, 4), tmp_path / "x.xml"
    save_openvino(torch.export.export(Shrinks(), (x,)), file, ["x"], ["y"])
    (found,) = open_graph(file)(x.numpy())
    torch.testing.assert_close(torch.from_numpy(found), Shrinks()(x))


def test_products_broadcast_by_themselves(tmp_path):
    """Both sides were copied to the batch that they have in common."""

    class Product(torch.nn.Module):
        def forward(self, x, y):
            return x @ y

    file = tmp_path / "x.xml"
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 3, 4, generator=generator)
    y = torch.randn(5, 4, 6, generator=generator)
    free = {0: torch.export.Dim.AUTO}
    program = torch.export.export(Product(), (x, y), dynamic_shapes=(free, None))
    save_openvino(program, file, ["x", "y"], ["z"])
    assert "Broadcast" not in file.read_text()
    (found,) = open_graph(file)(x.numpy(), y.numpy())
    torch.testing.assert_close(torch.from_numpy(found), x @ y)


def test_an_operator_without_translation_is_named(tmp_path):
    class Unusual(torch.nn.Module):
        def forward(self, x):
            return torch.ops.aten.igamma.default(x, x)

    level = logging.root.level
    program = torch.export.export(Unusual(), (torch.ones(2, 3),))
    with pytest.raises(ExportError, match=r"OpenVINO \S+ cannot translate it: .*igamma"):
        save_openvino(program, tmp_path / "x.xml", ["words"], ["y"])
    assert logging.root.level == level
