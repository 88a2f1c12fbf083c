"""`glip finetune`: from one's own annotations to a model and a report, in one command."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import instantiate

from ..config import get_config, resolve_config
from ..data import register_detection_dataset
from ..data.datasets.detection_formats import export_splits
from ..data.loading import load_records
from ..engine.setup import load_config
from ..engine.transfer import PROMPT_FILE
from ..errors import ConfigError, UsageError
from ..files import whole_file
from ..sources import stamp
from .finetuning import plan
from .finetuning.config_file import Task, is_own_config, write_config
from .finetuning.kept import NONE, find_old_sets, find_replay
from .finetuning.own_data import OwnData, read_own_data, write_records
from .finetuning.plan import Setting
from .finetuning.report import Story, write_report
from .finetuning.result import MODEL_FILE, Point, choose, write_result
from .finetuning.running import ALPHAS, Job, carry_out, options, results_of, write_json
from .finetuning.trial import measure_pace

NOTES = "finetune.json"
# Names beyond are read from a file.
MOST_NAMES = 20


def say(line: str) -> None:
    """A line for the user, now."""
    print(line, flush=True)


class Base(NamedTuple):
    """What is fine-tuned: its config, and its weights."""

    config: str
    weights: str


class Prepared(NamedTuple):
    """What was decided before the training; kept in `finetune.json`."""

    train: str
    val: str
    old: list[str]
    unwatched: list[str]
    measured: str
    notes: list[str]
    plan: list[Setting]


def run(args: argparse.Namespace) -> int:
    """Fine-tune, or go on where it was stopped."""
    start = time.perf_counter()
    _check(args)
    base = Base(resolve_config(args.config_file), str(Path(args.weights).resolve()))
    folder: Path = args.output.resolve()
    identity = _identity(args, base)
    prepared = _prepared_before(folder, identity)
    if prepared is None:
        prepared = _prepare(args, base, folder)
        content = {"identity": identity, "prepared": prepared._asdict()}
        write_json(folder / NOTES, content)
    else:
        say(f"goes on with what is in {folder}")
    say("Plan, and why:")
    for line in plan.lines(prepared.plan):
        say(line)
    say(f"config: {folder / 'config.py'}")
    if args.check:
        return 0
    merges = bool(prepared.old) and args.mode in plan.FORGETFUL
    job = Job(
        str(folder), str(folder / "config.py"), prepared.unwatched, merges,
        _gpus(args), args.num_processes,
    )  # fmt: skip
    outcome = carry_out(job)
    if results_of(folder, "after", prepared.val) is None:
        say("stopped before a model was evaluated: nothing to report yet; the same command goes on")
        return outcome.status or 130
    story = _story(args, base, folder, prepared, outcome.finished, time.perf_counter() - start)
    say("\n" + write_report(story))
    say(f"report: {folder / 'report.md'}")
    return outcome.status


def _check(args: argparse.Namespace) -> None:
    if strangers := [text for text in args.opts if "=" not in text]:
        raise UsageError(f"{strangers[0]!r} is no override of the form key=value")
    if args.minutes is not None and args.max_iter is not None:
        raise UsageError("--minutes and --max-iter both say how long it trains: give one of them")
    if args.val_images is not None and args.val is None:
        raise UsageError("--val-images needs --val")


def _gpus(args: argparse.Namespace) -> int:
    return int(torch.cuda.is_available()) if args.num_gpus is None else args.num_gpus


def _identity(args: argparse.Namespace, base: Base) -> dict[str, Any]:
    """What the plan depends on: a run that is taken up again must have the same."""
    asked = ("images", "val_images", "format", "mode", "minutes", "max_iter", "seed")
    known: dict[str, Any] = {key: getattr(args, key) for key in asked}
    for key in ("train", "val"):
        given = getattr(args, key)
        known[key] = given and [str(Path(given).resolve()), stamp(given)]
    known["weights"] = [base.weights, stamp(base.weights)]
    known["config"] = base.config
    known.update({key: list(getattr(args, key)) for key in ("old", "replay", "register", "opts")})
    return json.loads(json.dumps(known))


def _prepared_before(folder: Path, identity: dict[str, Any]) -> Prepared | None:
    """What an earlier start of the same command has decided.

    Raises:
        ConfigError: the folder is of another command.
    """
    path = folder / NOTES
    if not path.is_file():
        _require_own(folder)
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    theirs = content["identity"]
    if other := [key for key in identity if identity[key] != theirs.get(key)]:
        told = "; ".join(f"{key} {theirs.get(key)!r}, now {identity[key]!r}" for key in other)
        raise ConfigError(
            f"'{folder}' holds another fine-tuning ({told}): give another --output, or remove the "
            "folder"
        )
    settings = [Setting(*values) for values in content["prepared"]["plan"]]
    return Prepared(**{**content["prepared"], "plan": settings})


def _require_own(folder: Path) -> None:
    """A start that was stopped before its `NOTES` leaves the config and pictures alone.

    Raises:
        ConfigError: there is something else that would be replaced, or be gone on with.
    """
    later = ("training", "report.md", "report.json", MODEL_FILE, PROMPT_FILE)
    others = [name for name in later if (folder / name).exists()]
    config = folder / "config.py"
    if config.is_file() and not is_own_config(config):
        others.append(config.name)
    if others:
        raise ConfigError(
            f"'{folder}' has {', '.join(others)}, and no {NOTES} of a fine-tuning: they would be "
            "replaced; give another --output"
        )


def _prepare(args: argparse.Namespace, base: Base, folder: Path) -> Prepared:
    """Look at the data, split them, plan, and write the config."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for file in args.register:
        runpy.run_path(file)
    prefix = re.sub(r"\W+", "_", folder.name)
    config = get_config(base.config)
    say("Data:")
    data = read_own_data(
        *register(args, prefix),
        tokenizer=instantiate(config.dataloader.train.mapper.tokenizer),
        seed=args.seed, picture=folder / "data.png", say=say,
    )  # fmt: skip
    names = f"{prefix}_train", f"{prefix}_val"
    for name, records in zip(names, (data.train, data.val)):
        write_records(folder / "data" / f"{name}.json", records, data.classes)
    old = find_old_sets(args.old, config, folder / "data", args.seed)
    for each in old:
        say(f"what the base knows is measured on {each.told}")
    forgetful = args.mode in plan.FORGETFUL
    mix = find_replay(args.replay, config, say) if forgetful else []
    replay = plan.replay_weights(len(data.train), mix)
    task = Task(
        base.config, base.weights, args.mode, *names, replay, old, forgetful,
        [str(Path(file).resolve()) for file in args.register], list(args.opts),
    )  # fmt: skip
    settings = [_replay_line(mix, args), *_planned(args, folder, task, data)]
    if args.opts:
        settings.append(Setting("as you say", " ".join(args.opts)))
    watched = [each.name for each in old]
    return Prepared(
        *names, watched, [] if forgetful else watched, data.measured, data.notes, settings
    )


def register(args: argparse.Namespace, prefix: str) -> tuple[str, str | None]:
    """The names of what was given: to train on, and to validate on, if there is any."""
    train, val = f"{prefix}_given", f"{prefix}_given_val"
    register_detection_dataset(train, args.train, args.images, args.format)
    if args.val is not None:
        images = args.images if args.val_images is None else args.val_images
        register_detection_dataset(val, args.val, images, args.format)
        return train, val
    if "val" in export_splits(args.train):
        say(f"{args.train} has a part to validate on")
        register_detection_dataset(val, args.train, args.images, args.format, split="val")
        return train, val
    return train, None


def _replay_line(mix: list, args: argparse.Namespace) -> Setting:
    if args.mode not in plan.FORGETFUL:
        return Setting("replay", "none: the base itself is not changed in this mode")
    if list(args.replay) == [NONE]:
        return Setting("replay", "none, as you say: what is not seen again is forgotten")
    if not mix:
        return Setting(
            "replay", "none: no data of before are on this machine; --replay NAME gives some"
        )
    told = ", ".join(name for name, _, _ in mix)
    return Setting("replay", f"{plan.REPLAY_SHARE:.0%} of the images are of {told}: what is not "
                   "seen again is forgotten")  # fmt: skip


def _planned(args: argparse.Namespace, folder: Path, task: Task, data: OwnData) -> list[Setting]:
    """The settings, which are then in the config."""
    path, gpus = folder / "config.py", _gpus(args)
    machine = plan.Machine.here(gpus, args.num_processes)
    write_config(path, folder, task, [])
    config = get_config(path)
    settings = [*plan.settings_by_data(data, config, args.mode, machine), *plan.parts(config, data)]
    write_config(path, folder, task, settings)
    say("some steps, to see how fast this machine is")
    config = load_config(options(str(path), gpus))
    pace = measure_pace(config, machine.processes)
    settings += plan.settings_by_time(
        data,
        pace,
        config.dataloader.train.total_batch_size,
        1 - plan.REPLAY_SHARE if task.replay else 1.0,
        plan.minutes_for(args.minutes, machine),
        args.max_iter,
    )
    write_config(path, folder, task, settings)
    return settings


def _use(args: argparse.Namespace, base: Base, result: Path, classes: Sequence[str]) -> str:
    """The command that uses the result, but for the threshold."""
    words = ["glip", "detect", "IMAGE_OR_FOLDER", "--config-file", base.config]
    if result.name != MODEL_FILE:
        return shlex.join([*words, "--weights", base.weights, "--prompt", str(result)])
    names = result.with_name("classes.txt")
    with whole_file(names, "w") as file:
        file.write("".join(f"{name}\n" for name in classes))
    command = shlex.join([*words, "--weights", str(result), "--kind", "classes"])
    overrides = [text for text in args.opts if text.startswith(("model.", "inference."))]
    few = len(classes) <= MOST_NAMES
    prompt = shlex.quote(", ".join(classes)) if few else f'"$(cat {shlex.quote(str(names))})"'
    return " ".join([command, *map(shlex.quote, overrides), "--prompt", prompt])


def _story(
    args: argparse.Namespace, base: Base, folder: Path, prepared: Prepared, finished: bool,
    seconds: float,
) -> Story:  # fmt: skip
    """Everything that the report tells; writes the result."""
    config = load_config(options(str(folder / "config.py"), 0))
    train, val = (load_records(name) for name in (prepared.train, prepared.val))
    with open(folder / "data" / f"{prepared.train}.json", encoding="utf-8") as file:
        classes = [entry["name"] for entry in json.load(file)["categories"]]
    data = OwnData(classes, train, val, prepared.measured, prepared.notes)
    found = {0.0: "before", 1.0: "after", **{a: f"merged/{a:g}" for a in ALPHAS}}
    made = {a: results_of(folder, name, prepared.val) for a, name in found.items()}
    results = {a: result for a, result in made.items() if result is not None}
    points = {a: Point.of(a, result, prepared.val) for a, result in results.items()}
    alpha = choose(points)
    notes = {"config": base.config, "fine_tuned": Path(base.weights).name, "mode": args.mode,
             "alpha": f"{alpha:g}", "classes": ", ".join(classes)}  # fmt: skip
    result = write_result(config, folder, alpha, notes)
    command = shlex.join(["glip", *sys.argv[1:]])
    use = _use(args, base, result, classes)
    return Story(
        folder, command, args.mode, data, prepared.val, prepared.plan, results[0.0], results[alpha],
        points, alpha, finished, use, result.name, seconds,
    )  # fmt: skip
