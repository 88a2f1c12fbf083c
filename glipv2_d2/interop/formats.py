"""The formats by name, and their files as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError
from .coco import write_coco, write_coco_results
from .crops import write_crops
from .cvat import write_cvat
from .label_studio import write_label_studio
from .labels import Labels
from .odvg import write_odvg
from .tables import write_csv
from .voc import write_voc
from .yolo import write_yolo

__all__ = ["FORMATS", "Writer", "exports", "refuse_edited"]

# Writes labels into an empty folder.
Writer = Callable[[Labels, Path], None]

FORMATS: dict[str, Writer] = {
    "coco": write_coco,
    "coco-results": write_coco_results,
    "yolo": write_yolo,
    "voc": write_voc,
    "odvg": write_odvg,
    "label-studio": write_label_studio,
    "cvat": write_cvat,
    "csv": write_csv,
    "crops": write_crops,
}
_ASIDE = ".exports-"


@contextmanager
def exports(labels: Labels, formats: Iterable[str], output: Path) -> Iterator[None]:
    """Write formats aside; each becomes the folder `output/<format>` when the block has ended.

    One that is there is replaced as a whole.

    Raises:
        OSError: the folder cannot be written, or is full; nothing is changed.
    """
    for leftover in output.glob(f"{_ASIDE}*"):  # of a run that was killed
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=output, prefix=_ASIDE) as name:
        aside = Path(name)
        for key in formats:
            (aside / key).mkdir()
            FORMATS[key](labels, aside / key)
        yield
        for key in formats:
            if os.path.lexists(output / key):
                os.rename(output / key, aside / f"{key}.old")
            os.rename(aside / key, output / key)


def refuse_edited(formats: Iterable[str], output: Path, report: Path) -> None:
    """Refuse to replace labels that somebody has corrected since the report was written.

    Raises:
        UsageError: it names a file that is newer than the report.
    """
    written = report.stat().st_mtime_ns if report.is_file() else 0
    for key in formats:
        for file in sorted((output / key).rglob("*")):
            if file.lstat().st_mtime_ns > written and not file.is_dir():
                raise UsageError(
                    f"'{file}' was changed after '{report}' was written, and would be lost: move "
                    f"'{output / key}' away, or give another --output"
                )
