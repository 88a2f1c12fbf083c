"""Detectron2's checkpointer for every file that we read, with an error where weights do not fit."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..errors import CheckpointError
from ..files import whole_file
from ..modeling.sharding import is_sharded, sharded_like, whole, whole_tensor
from ..modeling.text.prompt_embeddings import offsets_in
from ..modeling.weights import WEIGHTS_REGISTRY
from .file_kinds import checked_suffix
from .fit import check_weights, excused_keys
from .loading import converted
from .names import plain_names
from .reading import read_checkpoint
from .resuming import LAST, find_checkpoint
from .safetensors_path import plain_path

__all__ = ["GLIPCheckpointer", "load_weights"]

logger = logging.getLogger(__name__)


class GLIPCheckpointer(DetectionCheckpointer):
    """Saves and loads training state; loads weights of every kind that `read_checkpoint` knows.

    Args:
        model, save_dir, save_to_disk, checkpointables: as in `DetectionCheckpointer`.
        strict: True when the model is to be used: every weight must come from the file, except
            those of `excused_keys`. False when training starts from the file: it may cover
            a part of the model, but not nothing, and no shape may differ.

    Of a file with a moving average (key `"ema"`) the averaged weights are used, unless a run is
    resumed from it, that is, unless anything else (the optimizer, ...) is restored, too; see
    `read_checkpoint`. Weights of a published format (see `formats`) are converted.
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
        cut = is_sharded(self.model)
        if not self.save_dir or not (self.save_to_disk or cut):
            return
        content = {"model": self.model.state_dict()}
        content.update((key, kept.state_dict()) for key, kept in self.checkpointables.items())
        content = whole(content) if cut else content
        if not self.save_to_disk:
            return
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
                f"'{path}' cannot be written ({reason.strerror or reason}); the checkpoints that "
                "were there before are as they were: make room, then go on with --resume"
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
        _, state = converted(checkpoint["model"], self.model, source=self._path)
        own = self.model.state_dict()
        here = dict(zip(plain_names(own), own))  # the model may be in a wrapper, too
        state = {here.get(name, name): value for name, value in state.items()}
        check_weights(self.model, state, source=f"'{self._path}'", strict=self.strict)
        _notice_other_language(self.model, state)
        # A base does not have the prompt that is tuned, and nobody needs to be warned of that.
        begun = {name: own[name] for name in offsets_in(self.model, own)}
        state = {n: sharded_like(v, own[n]) if n in own else v for n, v in state.items()}
        checkpoint["model"] = {**begun, **state}
        return super()._load_model(checkpoint)


@WEIGHTS_REGISTRY.register()
def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights into a model that is to be used (the moving average, where the file has one).

    Raises:
        CheckpointError: see `GLIPCheckpointer`; nothing may be missing.
    """
    GLIPCheckpointer(model, strict=True).load(str(path), checkpointables=[])


def _notice_other_language(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """A frozen language backbone that a file changes is no longer what its pretrained name says.

    A release file of this model must hold it then (see `excused_keys`).
    """
    own = {name: whole_tensor(value) for name, value in model.state_dict().items()}
    shared = [name for name in excused_keys(model) if name in state]
    if any(not torch.equal(state[name].to(own[name]), own[name]) for name in shared):
        language: Any = model.get_submodule("language_backbone")
        language.pretrained = None
