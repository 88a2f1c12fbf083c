"""8-bit integers in an OpenVINO export: the products and convolutions of its largest graph."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .runtime import ExportedGLIP

__all__ = ["quantize"]


def quantize(folder: Path, inputs: Sequence[dict]) -> None:
    """Let the graph "image" of an OpenVINO export compute in int8 where that can be done.

    Post-training quantization by NNCF: weights per channel, activations by the ranges that they
    have for the inputs. What follows no product or convolution stays in floating point.

    Args:
        folder: of the export. inputs: of the model in evaluation (`GLIP.forward`), as diverse as
            what it will be asked: of each one call of the graph is taken.
    """
    import nncf
    import openvino

    path = folder / "image.xml"
    calls = _calls(ExportedGLIP(folder), inputs)
    quantized = nncf.quantize(
        openvino.Core().read_model(path),
        nncf.Dataset(calls),
        subset_size=len(calls),
        model_type=nncf.ModelType.TRANSFORMER,  # attention's softmax and norms stay as they are
    )
    # Aside: the weights that it was made of are mapped from their file.
    aside = folder / "int8.xml"
    openvino.save_model(quantized, aside, compress_to_fp16=False)
    for suffix in (".bin", ".xml"):
        os.replace(aside.with_suffix(suffix), path.with_suffix(suffix))


def _calls(model: ExportedGLIP, inputs: Sequence[dict]) -> list[list[np.ndarray]]:
    """What the graph was given: of a vocabulary of many prompts each time another one."""
    neck: Any = model.neck
    graph, kept = neck.graph, []
    made: list[list[np.ndarray]] = []

    def noted(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made.append([tensor.numpy() for tensor in tensors])
        return graph(*tensors)

    neck.graph = noted
    for number, asked in enumerate(inputs):
        made.clear()
        model([asked])
        if made:  # a caption that the model leaves empty asks for no boxes
            kept.append(made[number % len(made)])
    return kept
