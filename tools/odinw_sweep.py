#!/usr/bin/env python
"""ODinW-13 or -35: every data set, zero-shot or fine-tuned, ending in the papers' table.

    python tools/odinw_sweep.py --config-file configs/pretrain/glip_t.py --weights glip_t.pth
    python tools/odinw_sweep.py ... --suite 35
    python tools/odinw_sweep.py ... --shots 1,3,5,10,all --num-gpus 4      fine-tuning
    python tools/odinw_sweep.py ... --only Aquarium,pothole evaluation.batch_size=8

Each run is a command of train_net.py, which is in the run's folder with all that it printed. A
finished run is not repeated: the same command goes on where it was stopped. Left in the output
folder: table.md, table.csv, evalai_*.json, and a folder for each setting and data set.

Fine-tuning follows GLIP's README: the whole model, 200 epochs at most, batch 4, copies of the data
8, 4, 2, 1 for 1, 3, 5, 10 shots, AdamW with 1e-4 (language 1e-5) and weight decay 0.05, the rate
divided by ten and the training ended by the AP on the (few-shot) validation file, which also
chooses the model; configs/finetune/odinw.py. The few-shot table has mean and deviation over seeds.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]  # so that a bare clone works too

from sweeping.plan import SHOT_WORDS, Run, plan_runs  # noqa: E402
from sweeping.report import missing_report, write_reports  # noqa: E402
from sweeping.running import Settings, carry_out, finished  # noqa: E402

import glipv2_d2  # noqa: E402, F401  (registers the data sets)
from glipv2_d2.config import resolve_config  # noqa: E402
from glipv2_d2.data.datasets.odinw import SEEDS  # noqa: E402
from glipv2_d2.engine.evaluate import missing_files  # noqa: E402
from glipv2_d2.errors import ConfigError, DataError, command  # noqa: E402


def listed(kind, known=None):
    """An argparse type: values with commas between them."""

    def parse(text: str) -> tuple:
        values = tuple(kind(part) for part in text.split(","))
        if known is not None and (strangers := [v for v in values if v not in known]):
            raise argparse.ArgumentTypeError(
                f"{strangers[0]!r} is none of {', '.join(map(str, known))}"
            )
        return values

    return parse


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="LazyConfig of the model")
    parser.add_argument("--weights", required=True, help="what train.init_checkpoint takes")
    parser.add_argument("--suite", type=int, default=13, choices=(13, 35))
    parser.add_argument("--only", type=listed(str), default=(), help="names of data sets: A,B")
    parser.add_argument(
        "--shots",
        type=listed(str, SHOT_WORDS),
        default=("0",),
        help=f"some of {','.join(SHOT_WORDS)}; 0, zero-shot, is the default",
    )
    parser.add_argument(
        "--seeds",
        type=listed(int, SEEDS),
        default=SEEDS,
        help=f"of the few-shot files; default: {','.join(map(str, SEEDS))}",
    )
    parser.add_argument("--output", default="output/odinw", help="default: output/odinw")
    parser.add_argument(
        "--caption-knowledge",
        action=argparse.BooleanOptionalAction,
        help="zero-shot with the words around class names of the official 35-set; default: as "
        "the official configs, in the suite of 35 only",
    )
    parser.add_argument("--allow-missing", action="store_true", help="go on without data sets that "
                        "are not on the disk; there is no average then")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=200, help="of fine-tuning, at most")
    parser.add_argument("--keep-weights", action="store_true", help="of fine-tuned models")
    parser.add_argument("--num-gpus", type=int, default=1, help="0: CPU")
    parser.add_argument("--num-processes", type=int, default=1, help="on CPU")
    parser.add_argument("opts", nargs="*", metavar="key=value", help="overrides of the config")
    return parser


def settings_of(args: argparse.Namespace) -> Settings:
    knowledge = args.suite == 35 if args.caption_knowledge is None else args.caption_knowledge
    if strangers := [text for text in args.opts if "=" not in text]:
        raise ConfigError(f"{strangers[0]!r} is no override of the form key=value.")
    return Settings(
        config=resolve_config(args.config_file),
        weights=args.weights,
        output=Path(args.output),
        opts=tuple(args.opts),
        machine=("--num-gpus", str(args.num_gpus), "--num-processes", str(args.num_processes)),
        caption_knowledge=knowledge,
        epochs=args.epochs,
        keep_weights=args.keep_weights,
    )


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
                f"'{settings.output}' holds the results of another sweep ({told}). Give another "
                "--output, or remove the folder."
            )
    settings.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(mine, indent=2))


def available_runs(runs: list[Run], allow_missing: bool) -> list[Run]:
    """The runs whose data are there.

    Raises:
        DataError: some are not, and that stops.
    """
    missing = missing_files({name for run in runs for name in run.needed()})
    if not missing:
        return runs
    text = f"These data sets are not on the disk:\n{missing_report(missing, runs)}\n"
    there = [run for run in runs if not missing.keys() & run.needed()]
    if not allow_missing:
        raise DataError(text + "With --allow-missing the others are evaluated, without an average.")
    if not there:
        raise DataError(text + "Nothing is left to evaluate.")
    print(text + f"Going on with {len(there)} of {len(runs)} runs.", flush=True)
    return there


def sweep(argv: list[str] | None = None) -> str:
    """Run the sweep; returns its Markdown table."""
    args = argument_parser().parse_intermixed_args(argv)
    settings = settings_of(args)
    runs = plan_runs(args.suite, args.shots, args.seeds, args.only)
    there = available_runs(runs, args.allow_missing)
    check_identity(settings)
    results = {}
    for number, run in enumerate(there, 1):
        result = finished(run, settings.output)
        print(f"[{number}/{len(there)}] {run.setting} {run.dataset}: ", end="", flush=True)
        known = result is not None
        result = result if known else carry_out(run, settings)
        values = ", ".join(f"{s} AP {result[s]['bbox']['AP']:.1f}" for s in ("test", "val"))
        print(values + (" (finished before)" if known else f", {result['seconds']} s"), flush=True)
        results[run] = result
    table = write_reports(results, settings.output, args.suite, Path(settings.config).stem)
    print(f"\n{table}\nWritten to {settings.output}: table.md, table.csv, evalai_*.json")
    return table


@command
def main() -> None:
    sweep()


if __name__ == "__main__":
    sys.exit(main())
