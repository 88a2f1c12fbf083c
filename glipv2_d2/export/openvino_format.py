"""The graphs in OpenVINO's form, for Intel's processors."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ..errors import ExportError
from .tracing import tracing

__all__ = ["save_openvino"]


def save_openvino(
    program: ExportedProgram, path: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Translate a program and write it: `path` (.xml), and the weights, in float32, as .bin.

    Raises:
        ExportError: an operator has no translation.
    """
    import openvino
    from openvino import opset14
    from openvino.frontend import OpConversionFailure
    from openvino.frontend.pytorch import ConversionExtension

    def product(node: Any) -> list:
        return opset14.matmul(node.get_input(0), node.get_input(1), False, False).outputs()

    whole = _whole_product()
    level = logging.root.level  # its translator silences everybody's warnings
    try:
        # It is traced again, to be taken apart into simpler operators.
        with tracing(), _exchanged(program, torch.ops.aten.matmul.default, whole):
            extension = ConversionExtension(str(whole), product)
            model = openvino.convert_model(program, extension=extension)
    except (RuntimeError, OpConversionFailure) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(
            f"OpenVINO {openvino.__version__} cannot translate it: {reason}"
        ) from error
    finally:
        logging.root.setLevel(level)
    for node in model.get_ops():
        # What it takes for PyTorch's rule reads the first pixel, and not the middle, where a map
        # is shrunk to a length of 1: the last levels of small images.
        if node.get_attributes().get("coordinate_transformation_mode") == "pytorch_half_pixel":
            node.set_attribute("coordinate_transformation_mode", "half_pixel")
    for names, ports in ((inputs, model.inputs), (outputs, model.outputs)):
        for name, port in zip(names, ports):
            port.get_tensor().set_names({name})
    openvino.save_model(model, path, compress_to_fp16=False)


@cache
def _whole_product() -> Any:
    """`matmul` as an operator that is not taken apart.

    OpenVINO's product broadcasts by itself; what PyTorch takes it apart into copies both sides to
    their common batch before, a tenth of the time of GLIP-T with COCO's names.
    """

    @torch.library.custom_op("glipv2_d2::product", mutates_args=())
    def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.matmul(x, y)

    product.register_fake(torch.matmul)
    return torch.ops.glipv2_d2.product.default


@contextmanager
def _exchanged(program: ExportedProgram, operator: Any, other: Any) -> Iterator[None]:
    """Within it, another operator is in the place of one."""
    nodes = [node for node in program.graph.nodes if node.target is operator]
    for node in nodes:
        node.target = other
    try:
        yield
    finally:
        for node in nodes:
            node.target = operator
