"""A sweep: its runs one after the other, or what is left of them, and then the tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...config import resolve_config
from ...engine.evaluate import missing_files
from ...errors import ConfigError, DataError
from ...files import whole_file
from .plan import Run
from .report import Heading, metric_of, missing_report, write_reports
from .running import Settings, carry_out, finished


def settings_of(args: argparse.Namespace, **more: Any) -> Settings:
    """What the options say that all sweeps have.

    Args:
        args: of `sweep_options`.
        more: what a sweep has of its own.

    Raises:
        ConfigError: no such config, or an override of another form.
    """
    if strangers := [text for text in args.opts if "=" not in text]:
        raise ConfigError(f"{strangers[0]!r} is no override of the form key=value")
    return Settings(
        config=resolve_config(args.config_file),
        weights=args.weights,
        output=args.output,
        opts=tuple(args.opts),
        machine=("--num-gpus", str(args.num_gpus), "--num-processes", str(args.num_processes)),
        epochs=args.epochs,
        keep_weights=args.keep_weights,
        **more,
    )


def run_all(runs: Sequence[Run], settings: Settings, heading: Heading) -> dict[Run, dict[str, Any]]:
    """Carry out the runs that are not finished, and write and print the tables.

    Returns:
        The results of all.

    Raises:
        ConfigError: there is no such metric.
        RunFailed: a run ended with an error.
    """
    results = {}
    for number, each in enumerate(runs, 1):
        result = finished(each, settings.output)
        print(f"[{number}/{len(runs)}] {each.setting} {each.dataset}: ", end="", flush=True)
        took = " (finished before)"
        if result is None:
            result = carry_out(each, settings)
            took = f", {result['seconds']} s"
        print(_told(result, heading) + took, flush=True)
        results[each] = result
    tables = write_reports(results, heading, settings.output)
    print(f"\n{tables}\nWritten to {settings.output}: table, averages (.md, .csv), runs.csv")
    return results


def _told(result: Mapping[str, Any], heading: Heading) -> str:
    values = (
        f"{split} {heading.metric} {metric_of(result, split, heading.metric):.1f}"
        for split in heading.splits
    )
    return ", ".join(values)


def check_identity(settings: Settings) -> None:
    """Refuse a folder with results of another model; note whose results these will be.

    Raises:
        ConfigError: the folder belongs to another sweep.
    """
    path, mine = settings.output / "sweep.json", settings.identity()
    if path.is_file():
        theirs = json.loads(path.read_text())
        other = [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]
        if other:
            told = "; ".join(f"{k} {theirs.get(k)!r}, now {mine.get(k)!r}" for k in sorted(other))
            raise ConfigError(
                f"'{settings.output}' holds the results of another sweep ({told}): give another "
                "--output, or remove the folder"
            )
    settings.output.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "w") as file:
        json.dump(mine, file, indent=2)


def available_runs(runs: list[Run], allow_missing: bool) -> list[Run]:
    """The runs whose data are there.

    Raises:
        DataError: some are not, and that stops.
    """
    missing = missing_files({name for run in runs for name in run.needed()})
    if not missing:
        return runs
    text = f"these data sets are not on the disk:\n{missing_report(missing, runs)}\n"
    there = [run for run in runs if not missing.keys() & run.needed()]
    if not allow_missing:
        raise DataError(text + "with --allow-missing the others are evaluated, without an average")
    if not there:
        raise DataError(text + "nothing is left to evaluate")
    print(text + f"Going on with {len(there)} of {len(runs)} runs.", flush=True)
    return there
