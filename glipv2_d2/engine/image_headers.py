"""Checks the images of the test sets before the training, not after it."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ..config import named_setting
from ..data import build_grounding_test_loader
from ..data.build import prepare
from ..data.images import record_image_problem
from ..data.loading import load_records, read_dataset
from ..data.shared_records import agreed
from ..errors import DataError

__all__ = ["HeaderCheck", "dataset_names", "check_headers", "require_test_images"]

logger = logging.getLogger(__name__)

Record = dict[str, Any]

# For all test sets together; 5,000 images take 0.3 s from the file cache.
MOST_SECONDS = 120
_THREADS = 16  # network file systems answer slowly, but many at once
_NAMED = 3


class HeaderCheck(NamedTuple):
    """What the headers of the images of a test set tell.

    Attributes:
        images: distinct images of the set. looked_at: those that there was time for.
        problems: kind -> what is wrong with each image.
    """

    images: int
    looked_at: int
    problems: dict[str, list[str]]


def dataset_names(loader: Mapping) -> list[str]:
    """The names of the data sets that a node of a test loader asks for, ours or Detectron2's."""
    dataset = loader.get("dataset")
    if isinstance(dataset, Mapping):
        dataset = dataset.get("names")  # of get_detection_dataset_dicts
    if isinstance(dataset, str):
        return [dataset]
    return [name for name in dataset or () if isinstance(name, str)]


def require_test_images(loaders: Mapping[str, Mapping]) -> None:
    """Read every test set and the header of each of its images.

    The first process of each machine looks, and all fail alike. If `MOST_SECONDS` are over, it says
    how many images it has not looked at and goes on.

    Args:
        loaders: name -> node of a test loader, ours or Detectron2's.

    Raises:
        DataError: records or images cannot be evaluated; it counts them and names the first.
    """
    agreed(lambda: _require(loaders) if comm.get_local_rank() == 0 else None)


def _require(loaders: Mapping[str, Mapping]) -> None:
    end = time.monotonic() + MOST_SECONDS
    lines, wrong, looked_at = [], 0, 0
    for name, loader in loaders.items():
        look = check_headers(_records(loader), end - time.monotonic())
        name = name or ", ".join(dataset_names(loader)) or "the test set"
        if look.looked_at < look.images:
            logger.warning(
                "%s: the headers of %d of %d test images were read in %d s; the others are "
                "looked at when they are evaluated",
                name,
                look.looked_at,
                look.images,
                MOST_SECONDS,
            )
        elif look.images:
            logger.info("%s: the headers of all %d test images were read", name, look.images)
        looked_at += look.looked_at
        wrong += sum(map(len, look.problems.values()))
        for kind, found in look.problems.items():
            lines += [f"{name}: {len(found)} x {kind}"]
            lines += [f"  {what}" for what in found[:_NAMED]]
            lines += ["  ..."] if len(found) > _NAMED else []
    if wrong:
        listed = "\n  ".join(lines)
        raise DataError(
            f"{wrong} of {looked_at} test images cannot be evaluated:\n  {listed}\n"
            "repair them, or take them out of the annotations: a test over fewer images is another "
            "test"
        )


def check_headers(records: Sequence[Record], seconds: float) -> HeaderCheck:
    """Read the headers of the images of some records, each image once.

    Args:
        records: with `file_name`; others are passed over.
        seconds: after which no other image is looked at.
    """
    # Captions share their images.
    images = {
        (r["file_name"], r.get("image_source"), r.get("height"), r.get("width")): r
        for r in records
        if isinstance(r, Mapping) and "file_name" in r
    }
    end = time.monotonic() + seconds
    looked_at = 0
    problems: dict[str, list[str]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for found in pool.map(lambda record: _problem(record, end), images.values()):
            if found is _LATE:
                continue
            looked_at += 1
            if found is not None:
                problems.setdefault(found[0], []).append(found[1])
    return HeaderCheck(len(images), looked_at, problems)


_LATE = ("", "no time was left")


def _problem(record: Record, end: float) -> tuple[str, str] | None:
    return _LATE if time.monotonic() > end else record_image_problem(record)


def _records(loader: Mapping) -> Sequence[Record]:
    """The records that a test loader will evaluate; none where only it can tell."""
    dataset = loader.get("dataset")
    if isinstance(dataset, str):
        if _is_ours(loader):
            with named_setting("dataloader.test"):
                mapper = instantiate(loader.get("mapper"))
            invalid = loader.get("invalid", "drop")
            records = load_records(dataset, invalid=invalid, drop_records=False, with_masks=False)
            prepare(mapper, dataset, records)
            return records
        return read_dataset(dataset) if dataset in DatasetCatalog.list() else ()
    if isinstance(dataset, Mapping) and "_target_" in dataset:
        dataset = instantiate(dataset)  # Detectron2's get_detection_dataset_dicts
        return dataset if isinstance(dataset, list) else ()
    return ()


def _is_ours(loader: Mapping) -> bool:
    target = loader.get("_target_")
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    return name.rsplit(".", 1)[-1] == build_grounding_test_loader.__name__
