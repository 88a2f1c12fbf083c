"""`glip odinw`: a suite of ODinW, zero-shot or fine-tuned, ending in the papers' table."""

import argparse
import json
from pathlib import Path

from ..config import resolve_config
from ..engine.evaluate import missing_files
from ..errors import ConfigError, DataError
from ..files import whole_file
from .sweep.plan import Run, plan_runs
from .sweep.report import missing_report, write_reports
from .sweep.running import Settings, carry_out, finished


def _settings_of(args: argparse.Namespace) -> Settings:
    knowledge = args.suite == 35 if args.caption_knowledge is None else args.caption_knowledge
    if strangers := [text for text in args.opts if "=" not in text]:
        raise ConfigError(f"{strangers[0]!r} is no override of the form key=value")
    return Settings(
        config=resolve_config(args.config_file),
        weights=args.weights,
        output=args.output,
        opts=tuple(args.opts),
        machine=("--num-gpus", str(args.num_gpus), "--num-processes", str(args.num_processes)),
        caption_knowledge=knowledge,
        epochs=args.epochs,
        keep_weights=args.keep_weights,
    )


def _check_identity(settings: Settings) -> None:
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


def _available_runs(runs: list[Run], allow_missing: bool) -> list[Run]:
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


def run(args: argparse.Namespace) -> int:
    """Run the sweep, or what is left of it.

    Raises:
        ConfigError: a data set that the suite does not have, or a folder of another sweep.
        DataError: data that are not on the disk.
        RunFailed: a run ended with an error.
    """
    settings = _settings_of(args)
    runs = plan_runs(args.suite, args.shots, args.seeds, args.only)
    there = _available_runs(runs, args.allow_missing)
    _check_identity(settings)
    results = {}
    for number, each in enumerate(there, 1):
        result = finished(each, settings.output)
        print(f"[{number}/{len(there)}] {each.setting} {each.dataset}: ", end="", flush=True)
        took = " (finished before)"
        if result is None:
            result = carry_out(each, settings)
            took = f", {result['seconds']} s"
        values = (f"{split} AP {result[split]['bbox']['AP']:.1f}" for split in ("test", "val"))
        print(", ".join(values) + took, flush=True)
        results[each] = result
    table = write_reports(results, settings.output, args.suite, Path(settings.config).stem)
    print(f"\n{table}\nWritten to {settings.output}: table.md, table.csv, evalai_*.json")
    return 0
