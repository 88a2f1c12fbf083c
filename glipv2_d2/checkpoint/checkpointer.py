"""Detectron2's checkpointer, plus safetensors and an answer to "are these weights of this model?".

Stock Detectron2 logs what did not fit and goes on, so that a wrong `--weights` shows as an AP
of zero. Here it is an error that says what differs.
"""

import logging
import os
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..errors import CheckpointError
from ..files import whole_file
from .formats.glip import (
    convert_official_glip,
    is_official_glip,
    published_config,
)
from .formats.unicl import is_unicl, unicl_for_model
from .names import plain_names
from .reading import checked_suffix, read_checkpoint
from .resuming import LAST, find_checkpoint
from .safetensors_path import plain_path

__all__ = [
    "GLIPCheckpointer",
    "check_weights",
    "convert_on_load",
    "excused_keys",
    "load_weights",
]

logger = logging.getLogger(__name__)

# Constants of the config, not weights; older files lack them or carry them.
_CONSTANTS = ("pixel_mean", "pixel_std")


class GLIPCheckpointer(DetectionCheckpointer):
    """Saves and loads training state; loads weights of every kind that `read_checkpoint` knows.

    Args:
        model, save_dir, save_to_disk, checkpointables: as in `DetectionCheckpointer`.
        strict: True when the model is to be used: every weight must come from the file, except
            those of `excused_keys`. False when training starts from the file: it may cover
            a part of the model, but not nothing, and no shape may differ.

    Of a file with a moving average (key `"ema"`) the averaged weights are used, unless a run is
    resumed from it, that is, unless anything else (the optimizer, ...) is restored, too; see
    `read_checkpoint`. The weights of an official GLIP are converted, and those of a UniCL,
    whose two towers training may start from.
    """

    def __init__(self, model, save_dir="", *, strict=False, save_to_disk=None, **checkpointables):
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict
        self._path = ""
        self._resumes = False

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load weights, and the `checkpointables` that the file has (None: all of them).

        Args:
            path: file or URL; empty: nothing is loaded.

        Returns:
            The entries of the file that nothing took.

        Raises:
            CheckpointError: the file is missing, damaged, or of another model.
        """
        path = plain_path(path) if path else path
        self._path = str(path)
        if path and "://" not in str(path):
            checked_suffix(Path(path))
        wanted = self.checkpointables if checkpointables is None else checkpointables
        self._resumes = bool(wanted)
        try:
            return super().load(str(path) if path else path, checkpointables)
        finally:
            # Detectron2's head asserts on this at the next load when this one has failed.
            self._parsed_url_during_load = None

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Load the last whole checkpoint of the run (see `find_checkpoint`), or else `path`.

        Args, returns: as in Detectron2; `resume=False` loads weights only.

        Raises:
            CheckpointError: see `load`; or the run left checkpoints, and none is whole.
        """
        found = find_checkpoint(self.save_dir) if resume else None
        return self.load(found.path) if found else self.load(path, checkpointables=[])

    def save(self, name: str, *, last: bool = True, **kwargs) -> None:
        """Save everything as `<name>.pth`; a file of that name stays until the new one is whole.

        Args:
            name: of the file, without suffix. kwargs: further entries, such as `iteration`.
            last: a resumed run goes on from this file.

        Raises:
            CheckpointError: it cannot be written, for instance because the disk is full.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content.update((key, kept.state_dict()) for key, kept in self.checkpointables.items())
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        try:
            with whole_file(path) as file:
                torch.save({**content, **kwargs}, file)
            if last:
                self.tag_last_checkpoint(f"{name}.pth")
        except (OSError, RuntimeError) as error:
            # torch closes its archive after a failed write, and fails again.
            reason = error if isinstance(error, OSError) else error.__context__
            if not isinstance(reason, OSError):
                raise
            raise CheckpointError(
                f"'{path}' cannot be written ({reason.strerror or reason}). The checkpoints that "
                "were there before are as they were: make room, then go on with --resume."
            ) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint that a resumed run goes on from."""
        with whole_file(os.path.join(self.save_dir, LAST), "w") as file:
            file.write(last_filename_basename)

    def _load_file(self, filename: str) -> dict:
        return read_checkpoint(filename, complete=self._resumes)

    def _load_model(self, checkpoint: dict):
        if checkpoint.get("matching_heuristics", False):
            # Model zoo names are matched by suffix inside Detectron2, which leaves out what does
            # not fit; there is nothing to compare by name.
            return super()._load_model(checkpoint)
        state = checkpoint["model"]
        if is_official_glip(state):
            state = _converted(state, self._path)
        elif is_unicl(state):
            state = unicl_for_model(state, self.model.state_dict(), source=self._path)
        own = list(self.model.state_dict())
        here = dict(zip(plain_names(own), own))  # the model may be in a wrapper, too
        state = {here.get(name, name): value for name, value in state.items()}
        checkpoint["model"] = state
        check_weights(self.model, state, source=self._path, strict=self.strict)
        _notice_other_language(self.model, state)
        return super()._load_model(checkpoint)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights into a model that is to be used (the moving average, where the file has one).

    Raises:
        CheckpointError: see `GLIPCheckpointer`; nothing may be missing.
    """
    GLIPCheckpointer(model, strict=True).load(str(path), checkpointables=[])


def convert_on_load(model: nn.Module, state: dict, prefix: str, *_) -> None:
    """`load_state_dict` pre-hook of GLIP: official weights, and UniCL's, are converted on their
    way in, those of a model in a wrapper (torch.compile, ...) get plain names, and those that a
    file may lack (`excused_keys`) stay as they are.

    So they come through every loader: torch's own, Detectron2's checkpointer, DefaultPredictor,
    none of which then calls a weight missing that is there.

    Args:
        model: the GLIP. state: changed in place, as such hooks do. prefix: the model's name inside
            the module that is loaded.

    Raises:
        CheckpointError: see `convert_official_glip`; or they are not all weights of this model
            (`GLIPCheckpointer` starts training from a part); see `unicl_for_model`.
    """
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if is_official_glip(inside):
        converted = _converted(inside, "official GLIP")
        check_weights(model, converted, source="official GLIP", strict=True)
    elif is_unicl(inside):
        converted = unicl_for_model(inside, model.state_dict(), source="UniCL")
    elif inside:
        converted = dict(zip(plain_names(inside), inside.values()))
    else:
        return
    excused = excused_keys(model)
    own = model.state_dict() if excused else {}
    converted = {**{name: own[name] for name in excused}, **converted}
    for name in inside:
        del state[prefix + name]
    state.update((prefix + name, value) for name, value in converted.items())


def excused_keys(model: nn.Module) -> set[str]:
    """Names that a file of weights may lack: those that the model got from elsewhere.

    That is a frozen language backbone which came with pretrained weights of its own
    (`model.language_backbone.pretrained` names them): released weights do not repeat them.
    """
    language = getattr(model, "language_backbone", None)
    if language is None or not getattr(language, "pretrained", None):
        return set()
    if any(parameter.requires_grad for parameter in language.parameters()):
        return set()
    return {f"language_backbone.{name}" for name in language.state_dict()}


def _notice_other_language(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """A frozen language backbone that a file changes is no longer what its pretrained name says.

    A release file of this model must hold it then (see `excused_keys`).
    """
    own = model.state_dict()
    shared = [name for name in excused_keys(model) if name in state]
    if any(not torch.equal(state[name].to(own[name]), own[name]) for name in shared):
        model.language_backbone.pretrained = None


def check_weights(
    model: nn.Module, state: dict[str, torch.Tensor], *, source: str, strict: bool
) -> None:
    """Compare a state dict with a model, by name and shape, before anything is loaded.

    Args:
        model: the model that the weights are for.
        state: name -> tensor.
        source: where the weights come from, for the messages.
        strict: whether every weight of the model must be there (see `excused_keys`).

    Raises:
        CheckpointError: nothing fits, a shape differs, or (strict) a weight is missing or one too
            many. The message counts, gives examples and says what to do.
    """
    own = _own_weights(model)
    _refuse_other_sizes(own, state, f"'{source}'")
    counts = _counts(own, state)
    excused = excused_keys(model)
    missing = [name for name in own if name not in state and name not in excused]
    if missing and strict:
        raise CheckpointError(
            f"'{source}' does not hold all weights of this model: {counts}, {len(missing)} are "
            f"missing, for example {_examples(missing)}. {_config_hint(state)}, or a complete "
            "checkpoint. (Training may start from a part: train.init_checkpoint.)"
        )
    surplus = [name for name in state if name not in own and name not in _CONSTANTS]
    if surplus and strict:
        raise CheckpointError(
            f"'{source}' holds weights of a larger model: {counts}, {len(surplus)} of them have no "
            f"place in the model, for example {_examples(surplus)}. {_config_hint(state)}."
        )
    if missing:
        logger.warning(
            "%s: %s; %d start from their initial values, for example %s.",
            source, counts, len(missing), _examples(missing),
        )  # fmt: skip


def _own_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v for k, v in model.state_dict().items() if k not in _CONSTANTS}


def _refuse_other_sizes(
    own: dict[str, torch.Tensor], state: dict[str, torch.Tensor], source: str
) -> None:
    common = [name for name in own if name in state]
    if not common:
        raise CheckpointError(
            f"{source} holds weights of another model: {_counts(own, state)}. It has for example "
            f"{_examples(state)}; the model has {_examples(own)}. {_config_hint(state)}."
        )
    differing = [k for k in common if tuple(state[k].shape) != tuple(own[k].shape)]
    if differing:
        shown = "; ".join(
            f"{k}: {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the model"
            for k in differing[:3]
        )
        raise CheckpointError(
            f"{source} holds weights of another size of model: {len(differing)} of the "
            f"{len(common)} common weights differ in shape ({shown}). {_config_hint(state)}."
        )


def _config_hint(state: dict[str, torch.Tensor]) -> str:
    config = published_config(state)
    if config:
        return f"They fit the config {config}: give that one"
    return "Give the config that the weights were trained with"


def _counts(own: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    common = sum(name in state for name in own)
    return f"{common} of the model's {len(own)} weights are in the file, which has {len(state)}"


def _converted(state: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    try:
        return convert_official_glip(state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _examples(names, count: int = 3) -> str:
    return ", ".join(list(names)[:count])
