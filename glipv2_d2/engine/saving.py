"""When a run is saved: at its period, at its end, and when it is told to stop."""

import logging
import re
import shlex
import sys
from pathlib import Path

from detectron2.checkpoint import Checkpointer
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..cluster import place_in_job
from ..files import remove_leftovers
from ..signals import Stopped, StopSignals

__all__ = ["Saving", "resuming_command"]

logger = logging.getLogger(__name__)

# A run has so many checkpoints at least, however short it is.
LEAST_SAVES = 4
_PERIODIC = re.compile(r"model_\d{7}\.pth")


class Saving(HookBase):
    """Saves `model_<iteration>.pth` periodically and at a signal, `model_final.pth` at the end.

    Used in place of Detectron2's `PeriodicCheckpointer`, which never saves a run shorter than its
    period, and forgets in a resumed run what it has to delete. Place it in every process, after all
    that changes the state in an iteration, and before the evaluation, which may fail.

    Args:
        checkpointer: saves in the main process only.
        stop: says whether a signal has come; the run is then saved at the end of an iteration, so
            that it goes on as if it had not been stopped.
        period: in iterations; at most a quarter of the run.
        max_to_keep: so many periodic checkpoints stay, the newest; None: all.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        stop: StopSignals,
        period: int,
        max_to_keep: int | None = None,
    ):
        if period < 1 or (max_to_keep is not None and max_to_keep < 1):
            raise ValueError(
                f"period={period} and max_to_keep={max_to_keep} must be at least 1 "
                "(max_to_keep=null keeps all)"
            )
        self._checkpointer = checkpointer
        self._stop = stop
        self._period = period
        self._max_to_keep = max_to_keep
        self._saved = -1  # the last iteration that is in a file

    def before_train(self) -> None:
        if comm.is_main_process() and (left := remove_leftovers(self._checkpointer.save_dir)):
            logger.info("Removed what an earlier run had not written to its end: %s", left)
        self._period = min(self._period, -(-self.trainer.max_iter // LEAST_SAVES))

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter:
            # Not under two names: a kill between them would leave a run that has reached its end,
            # and a model_final.pth that is missing or of a shorter run.
            self._save("model_final")
            return
        if done % self._period == 0:
            self._save_periodic()
        if (number := self._signal()) is not None:
            self.save_and_stop(number)

    def _signal(self) -> int | None:
        """The signal that has come to any of the processes, in all of them."""
        return next((n for n in comm.all_gather(self._stop.number) if n is not None), None)

    def save_and_stop(self, number: int) -> None:
        """Save what there is after the present iteration, and end the loop.

        Raises:
            Stopped: always.
        """
        if self._saved != self.trainer.iter:
            self._save_periodic()
        comm.synchronize()  # the main process has saved
        raise Stopped(number)

    def _save_periodic(self) -> None:
        self._save(f"model_{self.trainer.iter:07d}")
        if self._max_to_keep is not None and comm.is_main_process():
            present = f"model_{self.trainer.iter:07d}.pth"
            files = sorted(Path(self._checkpointer.save_dir).glob("model_*.pth"))
            # Names that lie ahead are of a run that went on from an older checkpoint.
            old = [f for f in files if _PERIODIC.fullmatch(f.name) and f.name <= present]
            for path in old[: -self._max_to_keep]:
                path.unlink()

    def _save(self, name: str) -> None:
        self._checkpointer.save(name, iteration=self.trainer.iter)
        self._saved = self.trainer.iter


def resuming_command(num_machines: int = 1) -> str:
    """The command line of this process, with `--resume`.

    Of torchrun's and srun's own options ("...") a process that they started knows nothing.

    Args:
        num_machines: `--num-machines`.
    """
    script, *options = sys.argv
    place = place_in_job(num_machines)
    starter = place.starter if place else ""
    program = {
        "": f"python {shlex.quote(script)}",
        "torchrun": f"torchrun ... {shlex.quote(script)}",
        "srun": f"srun ... python {shlex.quote(script)}",
    }[starter]
    if options[:1] == ["train"]:  # of `glip`
        program = f"{'glip' if not starter else program} {options.pop(0)}"
    if "--resume" not in options:
        options.insert(0, "--resume")  # before the overrides
    return f"{program} {shlex.join(options)}"
