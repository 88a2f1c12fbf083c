"""Which file of a run's folder the run goes on from."""

import logging
from pathlib import Path
from typing import NamedTuple

from ..errors import CheckpointError
from .reading import read_checkpoint

__all__ = ["LAST", "FoundCheckpoint", "checkpoints_in", "find_checkpoint"]

logger = logging.getLogger(__name__)

LAST = "last_checkpoint"  # Detectron2's name of the file that holds the name of the last one


class FoundCheckpoint(NamedTuple):
    """A whole checkpoint, and the last iteration that it has seen."""

    path: str
    iteration: int


def checkpoints_in(folder: str | Path) -> list[Path]:
    """What looks like the checkpoints of a run, the newest first; not looked into."""
    files = Path(folder).glob("model_*.pth")
    return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)


def find_checkpoint(folder: str | Path) -> FoundCheckpoint | None:
    """The checkpoint that `last_checkpoint` names or, if it is damaged, the newest whole one.

    Every file is read to its end, so that what is returned can be loaded.

    Args:
        folder: `train.output_dir`.

    Returns:
        None: there is none, so that a run starts there.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    folder = Path(folder)
    last = folder / LAST
    named = folder / last.read_text().strip() if last.is_file() else folder
    faults: list[str] = []
    if named != folder and (found := _whole(named, faults)):
        return found
    others = [_whole(path, faults) for path in checkpoints_in(folder) if path != named]
    # Others than the named one may be mere weights that somebody extracted.
    whole = [found for found in others if found and found.iteration >= 0]
    if whole:
        newest = max(whole, key=lambda found: found.iteration)
        why = "; ".join(faults) or f"'{last}' is missing or empty"
        logger.warning(
            "The run goes on from '%s', iteration %d, the newest whole checkpoint: %s",
            newest.path, newest.iteration, why,
        )  # fmt: skip
        return newest
    if faults:
        raise CheckpointError(
            f"'{folder}' has no whole checkpoint to go on from; to start anew, remove the folder "
            "or name another train.output_dir: " + "; ".join(faults)
        )
    return None


def _whole(path: Path, faults: list[str]) -> FoundCheckpoint | None:
    try:
        content = read_checkpoint(path, complete=True)
    except CheckpointError as error:
        faults.append(str(error))
        return None
    return FoundCheckpoint(str(path), int(content.get("iteration", -1)))
