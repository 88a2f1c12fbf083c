"""The graphs in OpenVINO's form, for Intel's processors."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.decomp_utils import CustomDecompTable

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
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose

    # OpenVINO's own product broadcasts. What PyTorch takes it apart into copies both sides to their
    # common batch before: a tenth of the time of GLIP-T with COCO's names.
    matmul = torch.ops.aten.matmul.default

    def product(node: Any) -> list:
        return opset14.matmul(node.get_input(0), node.get_input(1), False, False).outputs()

    simpler = CustomDecompTable()
    for operator in (*ops_to_not_decompose(), matmul):
        simpler.pop(operator, None)
    level = logging.root.level  # its translator silences everybody's warnings
    try:
        with tracing():  # it is traced again, to be taken apart into simpler operators
            module = program.run_decompositions(simpler).module()
            model = openvino.convert_model(
                TorchFXPythonDecoder(module, dynamic_shapes=True),
                extension=ConversionExtension(str(matmul), product),
            )
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
