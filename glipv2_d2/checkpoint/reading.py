"""Read checkpoint files of every kind into one form.

Objects beside the weights that are no tensors, arrays or plain containers (an optimizer, a
scheduler, a config) are left out; among the weights they are an error.
"""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import CheckpointError
from .file_kinds import (
    checked_suffix,
    foreign_object_error,
    load_torch_file,
    load_zoo_pickle,
    open_safetensors,
    shown,
)
from .formats import find_format
from .names import plain_names
from .restricted import StandIn

__all__ = ["read_checkpoint", "read_safetensors_metadata", "weight_names"]

logger = logging.getLogger(__name__)

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
        checkpointer expects it. Of a published format, and of a file with objects of
        unknown classes, only `"model"` is read. Its tensors are mapped from the file, not copied:
        do not overwrite the file while they are in use.

    Raises:
        CheckpointError: no such file, a truncated or foreign file, objects that are not weights.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    if suffix == ".safetensors":
        with open_safetensors(path) as file:
            return {"model": _plain({name: file.get_tensor(name) for name in file.keys()})}
    if suffix == ".pkl":
        return load_zoo_pickle(path)
    loaded, foreign = load_torch_file(path)
    state = _state_dict_in(loaded, path, foreign)
    published = find_format(state) is not None
    if complete and foreign and not published:
        raise foreign_object_error(path, foreign)
    whole = not (foreign or published)
    if whole and zipfile.is_zipfile(path):
        # A run that resumes goes on with them, and may write the file anew.
        loaded, _ = load_torch_file(path, mapped=False)
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
        with open_safetensors(path) as file:
            return plain_names(file.keys())
    if suffix == ".pkl":
        return list(load_zoo_pickle(path)["model"])
    loaded, foreign = load_torch_file(path)
    return list(_state_dict_in(loaded, path, foreign))


def read_safetensors_metadata(path: str | Path) -> dict[str, str]:
    """Read the header notes of a `.safetensors` file (who trained it, how).

    Raises:
        CheckpointError: not a whole safetensors file.
    """
    with open_safetensors(Path(path)) as file:
        return dict(file.metadata() or {})


def _log_left_out(path: Path, loaded: Mapping, state: Mapping, foreign: set[str]) -> None:
    beside = [str(key) for key in _other_entries(loaded) if key not in state]
    if foreign:
        logger.warning(
            "%s: only the weights are read; left out: %s; it holds objects that are not weights "
            "(%s), and none of them was built or run",
            path, ", ".join(beside), shown(foreign),
        )  # fmt: skip
    elif beside:
        logger.info("%s: only the weights are read; left out: %s", path, ", ".join(beside))


def _state_dict_in(loaded: Mapping, path: Path, foreign: set[str]) -> dict[str, torch.Tensor]:
    inside = (loaded.get(key) for key in _STATE_KEYS)
    state = next((value for value in inside if isinstance(value, Mapping | StandIn)), loaded)
    if isinstance(state, StandIn) or any(isinstance(value, StandIn) for value in state.values()):
        raise foreign_object_error(path, foreign)
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        entries = ", ".join(map(str, list(loaded)[:6])) or "nothing"
        raise CheckpointError(
            f"'{path}' holds no weights (its entries: {entries}): a checkpoint has its weights "
            f"at the top or under one of {', '.join(_STATE_KEYS)}"
        )
    return _plain(tensors)


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    plain = dict(zip(plain_names(state), state.values()))
    for name, value in plain.items():
        if value.ndim == 0 and name.endswith("log_temperature"):  # of files before FSDP
            plain[name] = value[None]
    return plain


def _averaged(state: dict, loaded: Mapping, path: Path) -> dict[str, torch.Tensor]:
    """The weights with the values of the moving average beside them, if it is one of ours."""
    for key in _AVERAGE_KEYS:
        average = loaded.get(key)
        if isinstance(average, Mapping) and "shadow" in average:
            logger.info("%s: the moving average of its weights is taken", path)
            state = {**state, **_plain(average["shadow"])}
        elif isinstance(average, Mapping | StandIn):
            logger.warning(
                "%s: its '%s' beside the weights, a moving average of another program, is not "
                "taken; to use it, save it alone: torch.save(checkpoint[%r], 'average.pth')",
                path, key, key,
            )  # fmt: skip
    return state


def _other_entries(loaded: Mapping) -> dict:
    return {
        key: value
        for key, value in loaded.items()
        if key not in _STATE_KEYS and not isinstance(value, torch.Tensor)
    }
