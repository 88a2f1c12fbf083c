"""Where a model runs."""

import torch

from ..errors import ConfigError

__all__ = ["resolve_device"]


def resolve_device(name: str = "auto", *, use_gpu: bool = True) -> str:
    """ "auto" becomes "cuda" where that is wanted and there, else "cpu"; other names stay.

    Raises:
        ConfigError: PyTorch knows no such device, or cannot use it here.
    """
    if name == "auto":
        return "cuda" if use_gpu and torch.cuda.is_available() else "cpu"
    name = str(name)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"the device '{name}' was asked for, but PyTorch sees no CUDA GPU: use 'cpu' or 'auto'"
        )
    try:
        torch.zeros(1, device=name).item()  # "meta" has no values
    except (RuntimeError, AssertionError) as error:  # the latter: PyTorch is built without it
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(
            f"the device '{name}' cannot be used: {reason}; use 'cpu', 'cuda' or 'auto'"
        ) from error
    return name
