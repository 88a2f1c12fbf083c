"""Half precision: where the model may run in it, and which of its parts must not."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ..compat import PRECISIONS
from ..errors import ConfigError

__all__ = [
    "at_least_float32", "convolution_dtype", "inference_autocast", "parameter_dtype",
    "without_autocast",
]  # fmt: skip


def inference_autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Context in which a model is used in "fp32", "bf16" or "fp16".

    Raises:
        ConfigError: another precision, or "fp16" on CPU, where few operators have it.
    """
    if precision == "fp32":
        return nullcontext()
    if precision not in PRECISIONS or (precision == "fp16" and device.type == "cpu"):
        allowed = "'fp32' or 'bf16'" + ("" if device.type == "cpu" else " or 'fp16'")
        raise ConfigError(
            f"inference.precision must be {allowed} on {device.type}, got {precision!r}."
        )
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


def without_autocast(device_type: str) -> AbstractContextManager:
    """Context in which operators keep the precision of their operands.

    It switches autocast off only where it is on: an exported graph holds every switch as a
    sub-graph of its own, which ONNX and the other backends know nothing of.
    """
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def convolution_dtype(weight: torch.Tensor) -> torch.dtype:
    """The precision that a convolution or a product with this weight runs in: autocast's."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """`x` itself in float32 or float64; half precision becomes float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    # No `to` without need: torch.export refuses one on what a graph gives back.
    return x if x.dtype == dtype else x.to(dtype)


def parameter_dtype(model: nn.Module) -> torch.dtype:
    """The precision of a model's parameters, which its images come in; float32 without any.

    Raises:
        ConfigError: the model was quantized.
    """
    for module in model.modules():
        if isinstance(module, torch.ao.nn.quantized.Linear):  # the dynamic one's parent
            raise ConfigError(
                "a quantized GLIP does not run: its attention over image and words folds weights "
                "into each other, which quantized layers do not hand out; use inference.precision="
                "bf16, or model.bfloat16()"
            )
    return next((p.dtype for p in model.parameters()), torch.float32)
