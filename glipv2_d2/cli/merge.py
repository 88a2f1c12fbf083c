"""`glip merge`: weights between a base and a tuned model, and what each of them can do."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from .. import model_zoo
from ..checkpoint import (
    build_for_weights,
    find_format,
    load_weights,
    merge_weights,
    read_checkpoint,
)
from ..checkpoint.fit import GLIPV2_PARTS
from ..checkpoint.merging import is_position
from ..checkpoint.names import is_within, plain_names
from ..config import apply_overrides, get_config
from ..engine.evaluate import pair_test_sets, require_test_data
from ..engine.setup import load_config, setup_logging
from ..engine.training import do_test
from ..errors import CheckpointError, ConfigError, UsageError
from ..evaluation.tables import Table
from ..files import whole_file
from .charts import Point, draw_lines
from .convert import check_target, write_weights

State = dict[str, torch.Tensor]
Results = dict[str, Any]  # test set -> task -> metric -> value

CURVE = (0.0, 0.25, 0.5, 0.75, 1.0)


def run(args: argparse.Namespace) -> int:
    """Merge and write, or evaluate a curve.

    Raises:
        UsageError: options that contradict.
        ConfigError: OUTPUT cannot be written, or the config has no such metric.
        CheckpointError: a file that cannot be read, or weights of different models.
    """
    if (name := str(args.base)) in model_zoo.names():
        args.base = model_zoo.find_weights(name)
        args.config_file = args.config_file or model_zoo.config_name(name)
    for alpha in args.alpha:
        if not 0 <= alpha <= 1:
            raise UsageError(f"--alpha is from 0, the base, to 1, the tuned model; got {alpha:g}")
    if args.curve:
        return _curve(args)
    if len(args.alpha) != 1:
        raise UsageError("give one --alpha, 0.5 for instance; or --curve, which evaluates several")
    options = ("eval", "old", "register", "metric")
    if unused := [option for option in options if getattr(args, option)]:
        raise UsageError(f"--{unused[0]} needs --curve")
    check_target(args.output, args.force, args.base, args.tuned)
    config = apply_overrides(get_config(args.config_file), args.opts) if args.config_file else None
    if config is None and args.opts:
        raise UsageError(f"'{args.opts[0]}' sets a value of a config: give --config-file")
    base, tuned = (weights_of(path, config) for path in (args.base, args.tuned))
    merged = merge_weights(base, tuned, args.alpha[0], args.only)
    notes = {"base": args.base.name, "tuned": args.tuned.name, "alpha": f"{args.alpha[0]:g}"}
    notes |= {"only": ",".join(args.only)} if args.only else {}
    write_weights(merged, args.output, notes)
    return 0


def weights_of(path: str | Path, config: DictConfig | None) -> State:
    """All weights of a file, on the CPU; with a config those of its model.

    Task heads and positions may be missing: `merge_weights` takes them from the other side.
    """
    if config is not None:
        names = plain_names(read_checkpoint(path)["model"])
        node = config.model.copy()
        for head in GLIPV2_PARTS:
            if node.get(head) is not None and not any(is_within(name, head) for name in names):
                node[head] = None
        if node.neck.get("positions") and not any(map(is_position, names)):
            node.neck.positions = False
        model = build_for_weights(node, path)
        load_weights(model, path)
        return model.state_dict()
    state = read_checkpoint(path)["model"]
    if found := find_format(state):
        raise CheckpointError(f"'{path}' is a file of {found.title}: give --config-file")
    return state


def _curve(args: argparse.Namespace) -> int:
    """Evaluate each alpha; writes the table, as CSV, too, and the picture."""
    if not args.config_file:
        raise UsageError("--curve needs --config-file: the model, and the test sets")
    if args.output.suffix or args.output.is_file():
        raise UsageError(f"with --curve OUTPUT is a folder, not a file as '{args.output}'")
    config = load_config(argparse.Namespace(**vars(args), tune="", mode=None, eval_only=True))
    require_test_data(config.dataloader)
    base, tuned = (weights_of(path, config) for path in (args.base, args.tuned))
    model = build_for_weights(config.model, args.tuned).to(config.train.device)
    args.output.mkdir(parents=True, exist_ok=True)
    setup_logging(str(args.output))
    curve: dict[float, Results] = {}
    metric = args.metric or "bbox/AP"
    for alpha in sorted(set(args.alpha)) or CURVE:
        model.load_state_dict(merge_weights(base, tuned, alpha, args.only))
        config.train.output_dir = str(args.output / f"alpha_{alpha:g}")
        curve[alpha] = _by_test_set(config, do_test(config, model))
        values = _values(curve[alpha], metric)
        told = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        print(f"alpha {alpha:g}: {metric} {told}", flush=True)
    _write_curve(curve, metric, args.output)
    return 0


def _by_test_set(config: DictConfig, results: Results) -> Results:
    """What `do_test` returned, under the test set's name where there is only one, too."""
    if set(pair_test_sets(config.dataloader)) != {""}:
        return results
    return {str(config.dataloader.test.get("dataset", "test")): results}


def _values(results: Results, metric: str) -> dict[str, float]:
    """A metric of each test set that has it; without a task it is one of boxes.

    Raises:
        ConfigError: none has it.
    """
    flat = {name: _flat(of) for name, of in results.items()}
    full = metric if "/" in metric else f"bbox/{metric}"  # as `glip few-shot` names it
    values = {name: of[full] for name, of in flat.items() if full in of}
    if not values:
        known = ", ".join(dict.fromkeys(key for of in flat.values() for key in of))
        raise ConfigError(f"no test set gives --metric {metric}; they give: {known}")
    return values


def _flat(tasks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{task}/{name}": float(v) for task, of in tasks.items() for name, v in of.items()}


def _write_curve(curve: Mapping[float, Results], metric: str, folder: Path) -> None:
    values = {alpha: _values(results, metric) for alpha, results in curve.items()}
    names = list(next(iter(values.values())))
    rows = [[f"{alpha:g}", *(of[name] for name in names)] for alpha, of in values.items()]
    table = Table(metric, ["alpha", *names], rows).markdown()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["alpha", "test set", "metric", "value"])
    for alpha, results in curve.items():
        for name, tasks in results.items():
            writer.writerows([f"{alpha:g}", name, *entry] for entry in _flat(tasks).items())
    for file_name, content in (("curve.md", table), ("curve.csv", text.getvalue())):
        with whole_file(folder / file_name, "w") as file:
            file.write(content)
    lines = {name: [Point(alpha, of[name]) for alpha, of in values.items()] for name in names}
    draw_lines(
        folder / "curve.png", lines, x="alpha (0: base, 1: tuned)", y=metric,
        title="weights between a base and a tuned model",
    )  # fmt: skip
    print(f"\n{table}\nWritten to {folder}: curve.md, curve.csv, curve.png")
