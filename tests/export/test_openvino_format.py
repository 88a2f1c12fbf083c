"""The OpenVINO files give in OpenVINO what the model gives in PyTorch."""

import logging

import pytest
import torch

from glipv2_d2.errors import ExportError
from glipv2_d2.export import graphs
from glipv2_d2.export.openvino_format import save_openvino
from glipv2_d2.export.standalone import open_graph
from glipv2_d2.modeling.fusion.vl_tower import places_of
from tests.support.exported_model import mask_inputs

pytest.importorskip("openvino")


@torch.no_grad()
def test_masks(telling, mask_program, tmp_path):
    file = tmp_path / "mask.xml"
    save_openvino(mask_program, file, graphs.MASK_INPUTS, graphs.MASK_OUTPUTS)
    for boxes in (1, 5):
        tensors = mask_inputs(boxes)
        (found,) = open_graph(file)(*(tensor.numpy() for tensor in tensors))
        expected = graphs.MaskPath(telling)(*tensors)
        # Of logits of some units: sums in another order.
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


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


def test_an_operator_without_translation_is_named(tmp_path):
    class Unusual(torch.nn.Module):
        def forward(self, x):
            return torch.ops.aten.igamma.default(x, x)

    level = logging.root.level
    program = torch.export.export(Unusual(), (torch.ones(2, 3),))
    with pytest.raises(ExportError, match=r"OpenVINO \S+ cannot translate it: .*igamma"):
        save_openvino(program, tmp_path / "x.xml", ["words"], ["y"])
    assert logging.root.level == level
