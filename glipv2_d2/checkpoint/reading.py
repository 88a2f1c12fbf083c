"""Read checkpoint files of every kind into one form, without running code that hides in them.

A `.pth` file is a pickle, and a pickle may run anything when it is loaded. Files are therefore
read with unpicklers that know tensors, arrays and plain containers only. Other objects beside the
weights (an optimizer, a scheduler, a config) are left out; among the weights they are an error.
"""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from .formats.glip import is_official_glip
from .formats.unicl import is_unicl
from .names import plain_names
from .restricted import (
    ArrayUnpickler,
    ForeignObjectError,
    StandIn,
    restricted_pickle,
)

__all__ = [
    "CheckpointError",
    "checked_suffix",
    "read_checkpoint",
    "read_safetensors_metadata",
    "weight_names",
]

logger = logging.getLogger(__name__)

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pyth")
_SUFFIXES = (".safetensors", ".pkl", *_TORCH_SUFFIXES)
# Where known programs keep the weights inside a checkpoint, in the order in which they are sought.
_STATE_KEYS = ("model", "state_dict", "model_state")
# Where they keep a moving average beside them; "ema" is this project's, and others'.
_AVERAGE_KEYS = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "ema_state")


def read_checkpoint(path: str | Path, *, complete: bool = False) -> dict:
    """Read a checkpoint file on the CPU.

    Args:
        path: a `.safetensors` file; a file of `torch.save` (`.pth`, `.pt`, `.bin`,
            `.ckpt`, pycls' `.pyth`); or a `.pkl` of Detectron2's model zoo.
        complete: the entries beside the weights are needed as much as the weights (to resume a
            run): one that cannot be read safely is an error then, and is left out otherwise.

    Returns:
        A dict with `"model"`: the state dict (name -> tensor, in the stored precision; without
        the prefixes of wrappers, see `plain_names`), and whatever else the file holds
        (`"trainer"`, `"ema"`, `"iteration"`, ...). Where a run of this project kept a moving
        average (`"ema"`), its values are in `"model"`, unless `complete`. Averages of other
        programs (`"model_ema"`, ...) are not taken, which is logged: the authors of GLIP call
        theirs unintended. A zoo `.pkl` also gets `"matching_heuristics"`, as Detectron2's
        checkpointer expects it. Of an official GLIP, a UniCL, and a file with objects of unknown
        classes, only `"model"` is read. Its tensors are mapped from the file, not copied: do not
        overwrite the file while they are in use.

    Raises:
        CheckpointError: no such file, a truncated or foreign file, objects that are not weights.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    if suffix == ".safetensors":
        return {"model": _plain(_read_safetensors(path))}
    if suffix == ".pkl":
        return _read_zoo_pickle(path)
    mapped = _is_zip(path)
    loaded, foreign = _load_torch(path, mmap=mapped)
    state = _state_dict_in(loaded, path, foreign)
    of_another_project = is_official_glip(state) or is_unicl(state)
    if complete and foreign and not of_another_project:
        raise CheckpointError(_foreign_object_message(path, foreign))
    whole = not (foreign or of_another_project)
    if whole and mapped:  # A run that resumes goes on with them, and may write the file anew.
        loaded, _ = _load_torch(path, mmap=False)
        state = _state_dict_in(loaded, path, foreign)
    if not complete:
        state = _averaged(state, loaded, path)
    if whole:
        return {**_other_entries(loaded), "model": state}
    _log_left_out(path, loaded, state, foreign)
    return {"model": state}


def weight_names(path: str | Path) -> list[str]:
    """The names of a file's weights, without reading the weights where the format allows it.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    if suffix == ".safetensors":
        with _open_safetensors(path) as file:
            return plain_names(file.keys())
    if suffix == ".pkl":
        return list(_read_zoo_pickle(path)["model"])
    loaded, foreign = _load_torch(path, mmap=_is_zip(path))
    return list(_state_dict_in(loaded, path, foreign))


def checked_suffix(path: Path) -> str:
    """The suffix of a file that may be a checkpoint, in small letters; it is not looked into.

    Raises:
        CheckpointError: no file, an empty one, or of a kind that cannot be read.
    """
    if path.is_dir():
        raise CheckpointError(f"'{path}' is a folder; a checkpoint file is needed.")
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint '{path}'.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"The checkpoint '{path}' is empty (0 bytes). Fetch it again.")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise CheckpointError(
            f"'{path}' is not a kind of checkpoint that can be read "
            f"(known: {', '.join(_SUFFIXES)})."
        )
    return suffix


def read_safetensors_metadata(path: str | Path) -> dict[str, str]:
    """Read the header notes of a `.safetensors` file (who trained it, how).

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


def _is_zip(path: Path) -> bool:
    """Whether torch.save wrote the file in its present format, whose tensors can be mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _load_torch(path: Path, *, mmap: bool) -> tuple[Mapping, set[str]]:
    """What the file holds, and the names of the objects in it that stand-ins replace."""
    foreign: set[str] = set()
    try:
        loaded = torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except pickle.UnpicklingError:
        # torch's own safe unpickler refuses the whole file for one object that it does not know.
        tensors_only = restricted_pickle(foreign)
        options = {"mmap": mmap, "weights_only": False, "pickle_module": tensors_only}
        try:
            loaded = torch.load(path, map_location="cpu", **options)
        except Exception as error:
            raise CheckpointError(_damaged_message(path, error)) from error
    except Exception as error:  # torch reports damage by half a dozen exception types
        raise CheckpointError(_damaged_message(path, error)) from error
    if isinstance(loaded, StandIn):
        raise CheckpointError(_foreign_object_message(path, foreign))
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"'{path}' holds a {type(loaded).__name__}, not a checkpoint (a dict of weights)."
        )
    return loaded, foreign


def _log_left_out(path: Path, loaded: Mapping, state: Mapping, foreign: set[str]) -> None:
    beside = [str(key) for key in _other_entries(loaded) if key not in state]
    if foreign:
        logger.warning(
            "%s: only the weights are read; left out: %s. It holds objects that are not weights "
            "(%s), and none of them was built or run.",
            path, ", ".join(beside), _examples(foreign),
        )  # fmt: skip
    elif beside:
        logger.info("%s: only the weights are read; left out: %s.", path, ", ".join(beside))


def _foreign_object_message(path: Path, foreign: set[str]) -> str:
    return (
        f"'{path}' holds Python objects that are not weights ({_examples(foreign)}). It is not "
        "loaded, because unpickling them could run any code. If you trust it, re-save only the "
        "weights where it was made: torch.save({'model': model.state_dict()}, 'weights.pth')."
    )


def _examples(names: set[str], count: int = 4) -> str:
    shown = sorted(names)[:count]
    return ", ".join(shown) + (", ..." if len(names) > count else "")


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


def _state_dict_in(loaded: Mapping, path: Path, foreign: set[str]) -> dict[str, torch.Tensor]:
    state = loaded
    for key in _STATE_KEYS:
        if isinstance(loaded.get(key), Mapping | StandIn):
            state = loaded[key]
            break
    if isinstance(state, StandIn) or any(isinstance(value, StandIn) for value in state.values()):
        raise CheckpointError(_foreign_object_message(path, foreign))
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        entries = ", ".join(map(str, list(loaded)[:6])) or "nothing"
        raise CheckpointError(
            f"'{path}' holds no weights (its entries: {entries}). A checkpoint has its weights "
            f"at the top or under one of: {', '.join(_STATE_KEYS)}."
        )
    return _plain(tensors)


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(plain_names(state), state.values()))


def _averaged(state: dict, loaded: Mapping, path: Path) -> dict[str, torch.Tensor]:
    """The weights with the values of the moving average beside them, if it is one of ours."""
    for key in _AVERAGE_KEYS:
        average = loaded.get(key)
        if isinstance(average, Mapping) and "shadow" in average:
            logger.info("%s: the moving average of its weights is taken.", path)
            state = {**state, **_plain(average["shadow"])}
        elif isinstance(average, Mapping | StandIn):
            logger.warning(
                "%s: its '%s' beside the weights, a moving average of another program, is not "
                "taken. To use it, save it alone: torch.save(checkpoint[%r], 'average.pth').",
                path, key, key,
            )  # fmt: skip
    return state


def _other_entries(loaded: Mapping) -> dict:
    return {
        key: value
        for key, value in loaded.items()
        if key not in _STATE_KEYS and not isinstance(value, torch.Tensor)
    }


def _read_zoo_pickle(path: Path) -> dict:
    try:
        with path.open("rb") as file:
            loaded = ArrayUnpickler(file, encoding="latin1").load()
    except ForeignObjectError as error:
        raise CheckpointError(_foreign_object_message(path, {error.name})) from error
    except Exception as error:  # a damaged pickle raises nearly anything
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
