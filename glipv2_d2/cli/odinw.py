"""`glip odinw`: a suite of ODinW, zero-shot or fine-tuned, ending in the papers' table."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog

from ..data.datasets.odinw import odinw_names
from ..errors import ConfigError
from ..evaluation.odinw import odinw_columns
from .sweep.plan import SweepData, plan_runs
from .sweep.report import Heading, write_submissions
from .sweep.sweep import available_runs, check_identity, run_all, settings_of


def run(args: argparse.Namespace) -> int:
    """Run the sweep, or what is left of it.

    Raises:
        ConfigError: a data set that the suite does not have, or a folder of another sweep.
        DataError: data that are not on the disk.
        RunFailed: a run ended with an error.
    """
    knowledge = args.suite == 35 if args.caption_knowledge is None else args.caption_knowledge
    settings = settings_of(args, caption_knowledge=knowledge)
    data = _suite_data(args.suite, args.only)
    runs = plan_runs(data, args.shots, args.seeds, args.modes)
    runs = available_runs(runs, args.allow_missing)
    check_identity(settings)
    columns, model = odinw_columns(args.suite), Path(settings.config).stem
    heading = Heading(f"ODinW-{args.suite}", columns, model, "AP", ("test", "val"))
    results = run_all(runs, settings, heading)
    write_submissions(results, settings.output)
    return 0


def _suite_data(suite: int, only: Sequence[str]) -> list[SweepData]:
    """The data sets of a suite, in its order; `only`: names of ODinW's table, empty for all.

    Raises:
        ConfigError: a data set that the suite does not have.
    """
    data = []
    splits = (odinw_names(suite, split) for split in ("train", "select", "test"))
    for train, select, test in zip(*splits):
        name = MetadataCatalog.get(test).odinw_name
        prefix, base = test.removesuffix("_test"), select.rsplit("_", 1)[-1]
        data.append(SweepData(name, prefix, base, train, select, test))
    known = [entry.name for entry in data]
    if strangers := [name for name in only if name not in known]:
        raise ConfigError(
            f"ODinW-{suite} has no data set {strangers[0]!r}; it has: {', '.join(known)}"
        )
    return [entry for entry in data if not only or entry.name in only]
