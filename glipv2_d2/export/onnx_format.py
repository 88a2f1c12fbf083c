"""The graphs in ONNX, for programs without PyTorch."""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from ..errors import ExportError
from .tracing import tracing

__all__ = ["OPSET", "require", "save_onnx"]

OPSET = 20  # DeformConv came with 19

# Names of the free sizes, of the inputs of all graphs.
_SIZES = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "words": {0: "batch", 1: "tokens"},
    "input_ids": {0: "batch", 1: "tokens"},
    "mask": {0: "batch", 1: "tokens"},
    "causal": {0: "batch"},
    "fused_words": {0: "batch", 1: "tokens"},
    "read": {1: "batch", 2: "positions"},
    "texts": {0: "batch", 1: "texts", 2: "tokens"},
    "boxes": {0: "boxes"},
    "rows": {0: "boxes"},
    "tokens": {0: "boxes", 1: "tokens"},
    **{f"level{i}": {0: "batch", 2: f"height{i}", 3: f"width{i}"} for i in range(5)},
}


def require(*packages: str, extra: str = "export") -> None:
    """Raise ExportError for the first package that is not installed; `extra` brings it."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ExportError(
                f"this format needs the package '{package}', which cannot be imported ({error}): "
                f"pip install 'glipv2_d2[{extra}]'"
            ) from error


def save_onnx(
    program: ExportedProgram, path: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Translate a program and write it.

    Raises:
        ExportError: an operator has no translation.
    """
    signature = program.graph_signature  # some models have fewer inputs and outputs
    inputs, outputs = inputs[: len(signature.user_inputs)], outputs[: len(signature.user_outputs)]
    # The exporter writes its progress to standard output, and its notes to the log.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with tracing():  # it is traced again, to be taken apart into ONNX's operators
            translated = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=[_SIZES[name] for name in inputs],
                custom_translation_table={
                    torch.ops.aten.split_with_sizes.default: _split_with_sizes
                },
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ExportError(f"PyTorch {torch.__version__} cannot write ONNX: {reason}") from error
    assert translated is not None  # dynamo=True
    translated.save(path)


def _split_with_sizes(x, split_sizes: Sequence, dim: int = 0) -> list:
    """Slices: the exporter's own form is a list of tensors, which it cannot optimize afterwards."""
    from onnxscript import opset18

    op: Any = opset18  # its stubs ask for the type of every tensor, which is not known here
    axis, start, parts = op.Constant(value_ints=[dim]), op.Constant(value_ints=[0]), []
    for size in split_sizes:
        if isinstance(size, int):
            length = op.Constant(value_ints=[size])
        else:
            length = op.Reshape(size, op.Constant(value_ints=[1]))
        end = op.Add(start, length)
        parts.append(op.Slice(x, start, end, axis))
        start = end
    return parts
