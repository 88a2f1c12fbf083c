"""Read checkpoint files of every kind into one form, without running code that hides in them.

A ``.pth`` file is a pickle, and a pickle may run anything when it is loaded. Files are therefore
read with an unpickler that knows tensors, arrays and plain containers only; what needs more is
refused with the name of the offending object.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

__all__ = ["CheckpointError", "read_checkpoint", "read_safetensors_metadata"]

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pyth")
_SUFFIXES = (".safetensors", ".pkl", *_TORCH_SUFFIXES)
# Where known programs keep the weights inside a checkpoint, in the order in which they are sought.
_STATE_KEYS = ("model", "state_dict", "model_state")


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged, of another kind, or of another model."""


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint file on the CPU.

    Args:
        path: a ``.safetensors`` file; a file of ``torch.save`` (``.pth``, ``.pt``, ``.bin``,
            ``.ckpt``, pycls' ``.pyth``); or a ``.pkl`` of Detectron2's model zoo.

    Returns:
        A dict with ``"model"``: the state dict (name -> tensor, in the stored precision), and
        whatever else the file holds (``"trainer"``, ``"ema"``, ``"iteration"``, ...). A zoo
        ``.pkl`` also gets ``"matching_heuristics"``, as Detectron2's checkpointer expects it.

    Raises:
        CheckpointError: no such file, a truncated or foreign file, objects that are not weights.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"'{path}' is a folder; a checkpoint file is needed.")
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint '{path}'.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"The checkpoint '{path}' is empty (0 bytes). Fetch it again.")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return {"model": _read_safetensors(path)}
    if suffix == ".pkl":
        return _read_zoo_pickle(path)
    if suffix not in _TORCH_SUFFIXES:
        raise CheckpointError(
            f"'{path}' is not a kind of checkpoint that can be read "
            f"(known: {', '.join(_SUFFIXES)})."
        )
    loaded = _read_torch(path)
    return {**_other_entries(loaded), "model": _state_dict_in(loaded, path)}


def read_safetensors_metadata(path: str | Path) -> dict[str, str]:
    """Read the header notes of a ``.safetensors`` file (who trained it, how).

    Raises:
        CheckpointError: not a whole safetensors file.
    """
    with _open_safetensors(Path(path)) as file:
        return dict(file.metadata() or {})


def _open_safetensors(path: Path):
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"'{path}' is not a whole safetensors file ({error}). {_looks_like(path)}"
            "Fetch or export it again."
        ) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    with _open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _read_torch(path: Path) -> Mapping:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise CheckpointError(_foreign_object_message(path, str(error))) from error
        raise CheckpointError(_damaged_message(path, error)) from error
    except Exception as error:  # torch reports damage by half a dozen exception types
        raise CheckpointError(_damaged_message(path, error)) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"'{path}' holds a {type(loaded).__name__}, not a checkpoint (a dict of weights)."
        )
    return loaded


def _foreign_object_message(path: Path, reason: str) -> str:
    found = re.search(r"Unsupported (?:global|class):? (?:GLOBAL )?([\w.]+)", reason)
    named = found.group(1) if found else "unknown"
    return (
        f"'{path}' holds Python objects beside its weights ({named}). It is not loaded, because "
        "unpickling them could run any code. If you trust it, re-save only the weights where it "
        "was made: torch.save({'model': model.state_dict()}, 'weights.pth')."
    )


def _damaged_message(path: Path, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"'{path}' cannot be read as a PyTorch checkpoint: it is truncated or another kind of "
        f"file ({first_line[:200]}). {_looks_like(path)}Fetch or save it again."
    )


def _looks_like(path: Path) -> str:
    """A hint about the usual stand-ins for a file that was not fetched right."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return "It is a Git LFS pointer: run `git lfs pull`. "
    if start[:1] == b"<":
        return "It looks like a web page. "
    return ""


def _state_dict_in(loaded: Mapping, path: Path) -> dict[str, torch.Tensor]:
    state = loaded
    for key in _STATE_KEYS:
        if isinstance(loaded.get(key), Mapping):
            state = loaded[key]
            break
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        entries = ", ".join(map(str, list(loaded)[:6])) or "nothing"
        raise CheckpointError(
            f"'{path}' holds no weights (its entries: {entries}). A checkpoint has its weights "
            f"at the top or under one of: {', '.join(_STATE_KEYS)}."
        )
    return tensors


def _other_entries(loaded: Mapping) -> dict:
    return {
        key: value
        for key, value in loaded.items()
        if key not in _STATE_KEYS and not isinstance(value, torch.Tensor)
    }


class _ArrayUnpickler(pickle.Unpickler):
    """Loads NumPy arrays and plain containers, which is all that a zoo ``.pkl`` holds."""

    _ALLOWED = {
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"Unsupported global {module}.{name}")
        return super().find_class(module, name)


def _read_zoo_pickle(path: Path) -> dict:
    try:
        with path.open("rb") as file:
            loaded = _ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        if "Unsupported global" in str(error):
            raise CheckpointError(_foreign_object_message(path, str(error))) from error
        raise CheckpointError(
            f"'{path}' cannot be read as a Detectron2 model zoo file ({error}). "
            f"{_looks_like(path)}Fetch it again."
        ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"'{path}' holds a {type(loaded).__name__}, not weights.")
    if "model" in loaded and "__author__" in loaded:
        result = dict(loaded)
    else:
        blobs = loaded.get("blobs", loaded)
        weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
        result = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    result["model"] = {
        name: torch.from_numpy(np.ascontiguousarray(value))
        for name, value in result["model"].items()
        if isinstance(value, np.ndarray)
    }
    return result
