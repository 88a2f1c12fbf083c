"""ODinW: makes the tables of the papers and the file for EvalAI from COCO results.

One data set is evaluated by the COCO evaluator (`odinw_<name>_<split>` have evaluator_type
"coco"). The benchmark's number is the plain mean of the AP over 13 (GLIP, GLIPv2) or 35 (ELEVATER)
data sets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ..data.datasets.coco_like import load_json
from ..data.datasets.odinw import ODINW_ROWS
from ..errors import DataError
from ..files import whole_file
from .tables import Table
from .transfer import TransferLine, TransferRun, summarize, transfer_table

# The columns of GLIPv2's Tables 11 and 12, in their order.
PAPER_COLUMNS = {
    "PascalVOC": "PascalVOC",
    "AerialMaritimeDrone_large": "AerialDrone",
    "Aquarium": "Aquarium",
    "CottontailRabbits": "Rabbits",
    "EgoHands_generic": "EgoHands",
    "NorthAmericaMushrooms": "Mushrooms",
    "Packages": "Packages",
    "Raccoon": "Raccoon",
    "ShellfishOpenImages": "Shellfish",
    "VehiclesOpenImages": "Vehicles",
    "pistols": "Pistols",
    "pothole": "Pothole",
    "thermalDogsAndPeople": "Thermal",
}
_FIELDS = ("image_id", "category_id", "bbox", "score")


def odinw_run(
    dataset_name: str,
    results: Mapping[str, Mapping[str, float]],
    shots: int | None = 0,
    seed: int | None = None,
) -> TransferRun:
    """Make a run from what the COCO evaluator returned for a registered data set.

    `minival`, the smaller validation set on which the official configs select the models of some
    data sets, counts as `val`.

    Raises:
        DataError: the data set is not one of ODinW.
    """
    dataset = MetadataCatalog.get(dataset_name).get("odinw_name")
    if dataset is None:
        raise DataError(f"{dataset_name!r} is no data set of ODinW: its metadata has no odinw_name")
    split = dataset_name.rsplit("_", 1)[-1]
    split = {"minival": "val"}.get(split, split)
    return TransferRun(dataset, split, float(results["bbox"]["AP"]), shots, seed)


def odinw_report(
    results: Mapping[str, Mapping[str, Mapping[str, float]]], suite: int = 13
) -> Table:
    """Make the zero-shot table of an evaluation of several data sets at once.

    Args:
        results: registered name -> what the COCO evaluator returned.
        suite: 13 or 35.
    """
    runs = [odinw_run(name, result) for name, result in results.items()]
    return odinw_table(summarize_odinw(runs, suite), suite)


def odinw_columns(suite: int = 13) -> dict[str, str]:
    """Return data set -> heading of its column, in the order of the table.

    Raises:
        ValueError: a suite that is neither 13 nor 35.
    """
    if suite == 13:
        return dict(PAPER_COLUMNS)
    if suite == 35:
        return {row.name: row.name for row in ODINW_ROWS}
    raise ValueError(f"ODinW has suites of 13 and 35 data sets, not {suite!r}")


def summarize_odinw(runs: Iterable[TransferRun], suite: int = 13) -> list[TransferLine]:
    """`summarize` for a suite.

    Args:
        runs: in any order; data sets outside the suite are left out.
        suite: 13 or 35.

    Raises:
        DataError: two runs of one data set in one setting, or an unknown data set.
    """
    columns = odinw_columns(suite)
    known = {row.name for row in ODINW_ROWS}
    runs = list(runs)
    if strangers := [run.dataset for run in runs if run.dataset not in known]:
        raise DataError(f"ODinW has no data set {strangers[0]!r}")
    return summarize([run for run in runs if run.dataset in columns], list(columns), "ODinW")


def odinw_table(
    lines: Sequence[TransferLine], suite: int = 13, heading: Mapping[str, str] | None = None
) -> Table:
    """Make the table as in GLIPv2's Tables 11 and 12, see `transfer_table`."""
    return transfer_table(f"ODinW-{suite}", lines, odinw_columns(suite), heading or {})


def write_evalai(
    results_files: Mapping[str, str | os.PathLike | Mapping[int, str | os.PathLike]], path: str
) -> None:
    """Write the file for the ODinW challenge on EvalAI (format: README of GLIP's repository).

    Zero-shot and all data: `{"Aquarium": [COCO results], ...}`; few-shot:
    `{"Aquarium": {"3": [COCO results], "30": ..., "300": ...}, ...}`.

    Args:
        results_files: data set of ODinW's table -> `coco_instances_results.json` of the COCO
            evaluator, or seed -> such a file.
        path: the file to write.

    Raises:
        DataError: an unknown data set, or a file that holds no COCO results.
    """
    unknown = set(results_files) - {row.name for row in ODINW_ROWS}
    if unknown:
        raise DataError(f"ODinW has no data set {sorted(unknown)[0]!r}")
    content = {
        name: {str(seed): _coco_results(file) for seed, file in files.items()}
        if isinstance(files, Mapping)
        else _coco_results(files)
        for name, files in results_files.items()
    }
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path, "w") as file:
        json.dump(content, file)


def _coco_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    rows = load_json(os.fspath(path), "results file")
    try:
        return [{field: row[field] for field in _FIELDS} for row in rows]
    except (KeyError, TypeError) as error:
        raise DataError(f"{os.fspath(path)}: no COCO results: {error!r}") from error
