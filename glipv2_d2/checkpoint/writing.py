"""Write weights for release: float16 safetensors, without what the model gets from elsewhere."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ..files import whole_file
from .fit import excused_keys

__all__ = ["release_state", "save_safetensors"]


def release_state(model: nn.Module, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """The weights of a model that a release file needs, on the CPU.

    Leaves out a frozen language backbone that comes with its own pretrained weights; floating
    point values are stored as `dtype`, integers as they are.

    Raises:
        ValueError: a value is not finite, or does not fit `dtype` (it would become infinite).
    """
    excused = excused_keys(model)
    state = {}
    for name, value in model.state_dict().items():
        if name in excused:
            continue
        stored = value.detach().cpu()
        if stored.is_floating_point():
            stored = stored.to(dtype)
            if not torch.isfinite(stored).all():
                raise ValueError(
                    f"the weight '{name}' is not finite as {dtype}: its largest magnitude is "
                    f"{float(value.abs().max()):.3g}; store float32 instead"
                )
        state[name] = stored.contiguous().clone()
    return state


def save_safetensors(
    state: Mapping[str, torch.Tensor], path: str | Path, metadata: Mapping[str, object]
) -> Path:
    """Write weights and the notes about their making (stored as strings in the file's header); a
    file of that name stays until the new one is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {str(key): str(value) for key, value in metadata.items()}
    with whole_file(path) as file:
        save_file(dict(state), file.name, metadata={"format": "pt", **notes})
    return path
