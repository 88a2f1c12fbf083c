"""Open a checkpoint file of each kind, without running code that hides in it.

A `.pth` file is a pickle, and a pickle may run anything when it is loaded. Files are therefore
read with unpicklers that know tensors, arrays and plain containers only.
"""

import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from .restricted import ArrayUnpickler, StandIn, restricted_pickle

__all__ = [
    "EXPORT_FILE",
    "checked_suffix",
    "foreign_object_error",
    "is_export",
    "load_torch_file",
    "load_zoo_pickle",
    "open_safetensors",
    "shown",
    "telling_file",
]

EXPORT_FILE = "export.json"  # an export's settings; it has graphs in place of weights
_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pyth")
_SUFFIXES = (".safetensors", ".pkl", *_TORCH_SUFFIXES)


def is_export(path: str | Path | None) -> bool:
    """The path is a folder that `glip export` wrote; no path (None, "") is none."""
    return bool(path) and (Path(str(path)) / EXPORT_FILE).is_file()


def telling_file(weights: str | Path) -> Path:
    """The file that is written anew whenever the weights are: of an export its settings."""
    return Path(weights) / EXPORT_FILE if is_export(weights) else Path(weights)


def checked_suffix(path: Path) -> str:
    """The suffix of a file that may be a checkpoint, in small letters; it is not looked into.

    Raises:
        CheckpointError: no file, an empty one, or of a kind that cannot be read.
    """
    if is_export(path):
        raise CheckpointError(
            f"'{path}' is an export, whose graphs can be used and evaluated, and nothing else: "
            "give the weights that it was made of"
        )
    if path.is_dir():
        raise CheckpointError(f"'{path}' is a folder; a checkpoint file is needed")
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint '{path}'")
    if path.stat().st_size == 0:
        raise CheckpointError(f"the checkpoint '{path}' is empty (0 bytes): fetch it again")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise CheckpointError(
            f"'{path}' is not a kind of checkpoint that can be read (known: {', '.join(_SUFFIXES)})"
        )
    return suffix


def open_safetensors(path: Path) -> safe_open:
    """Open a `.safetensors` file; its header is read, and no tensor yet."""
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"'{path}' is not a whole safetensors file ({error}){_looks_like(path)}; "
            "fetch or export it again"
        ) from error


def load_torch_file(path: Path, *, mapped: bool = True) -> tuple[Mapping, set[str]]:
    """Read a file of `torch.save`.

    Args:
        mapped: the tensors stay in the file until they are used, where its kind allows it; it must
            not be overwritten meanwhile.

    Returns:
        What the file holds, and the names of the objects in it that stand-ins replace.
    """
    if _is_torchscript(path):
        raise CheckpointError(
            f"'{path}' is a TorchScript archive, which holds code and is not loaded; if you trust "
            'it, save its weights alone: python -c "import torch; torch.save(torch.jit.load('
            f"'{path}', map_location='cpu').state_dict(), 'weights.pth')\""
        )
    options: dict[str, Any] = {"map_location": "cpu", "mmap": mapped and zipfile.is_zipfile(path)}
    foreign: set[str] = set()
    try:
        try:
            loaded = torch.load(path, weights_only=True, **options)
        except pickle.UnpicklingError:
            # torch's own safe unpickler refuses the whole file for one object it does not know.
            known = restricted_pickle(foreign)
            loaded = torch.load(path, weights_only=False, pickle_module=known, **options)
    except Exception as error:  # torch reports damage by half a dozen exception types
        raise _damaged(path, error) from error
    if isinstance(loaded, StandIn):
        raise foreign_object_error(path, foreign)
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"'{path}' holds a {type(loaded).__name__}, not a checkpoint (a dict of weights)"
        )
    return loaded, foreign


def load_zoo_pickle(path: Path) -> dict:
    """Read a `.pkl` of Detectron2's model zoo, see `read_checkpoint`."""
    with path.open("rb") as file:
        unpickler = ArrayUnpickler(file, encoding="latin1")
        try:
            loaded = unpickler.load()
        except Exception as error:  # a damaged pickle raises nearly anything
            if unpickler.foreign:
                raise foreign_object_error(path, {unpickler.foreign}) from error
            raise _damaged(path, error, "file of Detectron2's model zoo") from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"'{path}' holds a {type(loaded).__name__}, not weights")
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


def foreign_object_error(path: Path, foreign: Collection[str]) -> CheckpointError:
    """The error for a file that holds objects of these names where weights should be."""
    return CheckpointError(
        f"'{path}' holds Python objects that are not weights ({shown(foreign)}) and is not loaded, "
        "because unpickling them could run any code; if you trust it, re-save only the weights "
        "where it was made: torch.save({'model': model.state_dict()}, 'weights.pth')"
    )


def shown(names: Collection[str], count: int = 4) -> str:
    """Some of the names, for a message."""
    return ", ".join(sorted(names)[:count]) + (", ..." if len(names) > count else "")


def _damaged(path: Path, error: Exception, kind: str = "PyTorch checkpoint") -> CheckpointError:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"'{path}' cannot be read as a {kind}: it is truncated or another kind of "
        f"file ({first_line[:200]}){_looks_like(path)}; fetch or save it again"
    )


def _looks_like(path: Path) -> str:
    """A hint about the usual stand-ins for a file that was not fetched right."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return "; it is a Git LFS pointer: run `git lfs pull`"
    return "; it looks like a web page" if start[:1] == b"<" else ""


def _is_torchscript(path: Path) -> bool:
    """Whether it is an archive of a program, as OpenAI publishes CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())
