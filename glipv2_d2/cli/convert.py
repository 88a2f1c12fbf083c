"""`glip convert`: an official GLIP under this project's names, or a small release file."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from .. import model_zoo
from ..checkpoint import (
    OfficialGlip,
    build_for_weights,
    check_weights,
    convert_official_glip,
    load_weights,
    published_config,
    read_checkpoint,
    read_safetensors_metadata,
    release_state,
    save_safetensors,
)
from ..checkpoint.names import is_within
from ..config import apply_overrides, get_config, load_model_config, named_setting
from ..errors import CheckpointError, ConfigError, UsageError
from ..files import whole_file

State = dict[str, torch.Tensor]
PRECISIONS = {"float16": torch.float16, "float32": torch.float32}
PARTS = {
    "backbone.bottom_up": ("backbone.body.",),
    "backbone (FPN)": ("backbone.fpn.",),
    "language_backbone": ("language_backbone.",),
    "neck": ("rpn.head.dyhead_tower.",),
    "head": ("rpn.",),
}


def run(args: argparse.Namespace) -> int:
    """Convert and write.

    Raises:
        ConfigError: the target has another suffix, is there already, or is the source.
        CheckpointError: the source cannot be read, is of another model, or is no official GLIP.
    """
    args.source = Path(model_zoo.weights_file(args.source))
    source, target = args.source, args.target
    check_target(target, args.force, source)
    if args.config_file is None and args.overrides:
        raise UsageError(f"'{args.overrides[0]}' sets a value of a config: give --config-file")
    of_release = ("without", "precision", "command", "machine", "hours", "seed")
    unused = [name for name in of_release if getattr(args, name) not in (None, "", ())]
    if args.config_file is None and unused:
        raise UsageError(f"--{unused[0]} is for a release file: give --config-file")
    state, notes = _converted(source) if args.config_file is None else _release(args)
    write_weights(state, target, notes)
    print(json.dumps(notes, indent=2))
    return 0


def check_target(target: Path, force: bool, *sources: Path) -> None:
    """Whether weights may be written to a file.

    Raises:
        ConfigError: it has another suffix, is there already, or is one of the sources.
    """
    if target.suffix not in (".safetensors", ".pth"):
        raise ConfigError(f"the target must end in .safetensors or .pth, got '{target.name}'")
    if target.exists() and any(path.exists() and target.samefile(path) for path in sources):
        raise ConfigError("the target is the source, which would be overwritten")
    if target.exists() and not force:
        raise ConfigError(f"'{target}' is there already; --force overwrites it")


def write_weights(state: State, target: Path, notes: Mapping[str, Any]) -> None:
    """Write weights with notes to a `.safetensors` or `.pth` file, and print its size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".pth":
        with whole_file(target) as file:
            torch.save({"model": state, "notes": notes}, file)
    else:
        save_safetensors({k: v.contiguous() for k, v in state.items()}, target, notes)
    values = sum(value.numel() for value in state.values()) / 1e6
    size = target.stat().st_size / 1e6
    print(f"{target}: {len(state)} tensors, {values:.2f} million values, {size:.1f} MB")


def _release(args: argparse.Namespace) -> tuple[State, dict]:
    """Averaged weights in the precision asked for, and what made them."""
    config = apply_overrides(get_config(args.config_file), args.overrides)
    model = _build(config.model, str(args.source))
    load_weights(model, args.source)
    state = release_state(model, PRECISIONS[args.precision or "float16"])
    for part in args.without:
        inside = [name for name in state if is_within(name, part)]
        if not inside:
            parts = ", ".join(sorted({name.split(".")[0] for name in state}))
            raise UsageError(f"--without {part}: the weights have no such part; they have {parts}")
        for name in inside:
            del state[name]
    return state, _notes(args, config)


def _build(model: DictConfig, checkpoint: str) -> nn.Module:
    """The model; a frozen language backbone with the weights that it is compared with."""
    if model.get("language_backbone", {}).get("frozen", False):
        with named_setting("model"):
            return instantiate(model)
    return build_for_weights(model, checkpoint)


def _notes(args: argparse.Namespace, config: DictConfig) -> dict[str, str]:
    """What made the weights: from the run itself where it is recorded, else from the caller."""
    if args.source.suffix == ".safetensors":  # a release file in another form
        said = {name: getattr(args, name) for name in ("command", "machine", "hours", "seed")}
        given = {name: str(value) for name, value in said.items() if value not in (None, "")}
        # A file of another program, or a merged one, has not noted it.
        return {"config": args.config_file, **read_safetensors_metadata(args.source), **given}
    checkpoint = read_checkpoint(args.source)
    notes = {
        "config": args.config_file,
        "overrides": " ".join(args.overrides),
        "command": args.command,
        "seed": str(config.train.seed if args.seed is None else args.seed),
        "machine": args.machine,
        "averaged": str("shadow" in checkpoint.get("ema", {})),
        "torch": str(torch.__version__),
    }
    if "iteration" in checkpoint:
        notes["iterations"] = str(int(checkpoint["iteration"]) + 1)
    if args.hours is not None:
        notes["hours"] = f"{args.hours:g}"
    return notes


def _converted(source: Path) -> tuple[State, dict]:
    """The weights of an official GLIP under our names; prints what became of each of them."""
    official = read_checkpoint(source)["model"]
    if not OfficialGlip().recognizes(official):
        raise CheckpointError(
            f"'{source}' holds no official GLIP (no weight is named rpn.head.dyhead_tower.*): "
            "weights of this project need no conversion; --config-file makes them small"
        )
    try:
        converted = convert_official_glip(official)
    except CheckpointError as error:
        raise CheckpointError(f"'{source}': {error}") from error
    print(_table(official, converted))
    print(_compare(converted, source))
    return converted, {"converted_from": source.name, "official_tensors": len(official)}


def _compare(converted: Mapping[str, torch.Tensor], source: Path) -> str:
    """Whether the converted weights are all weights of the published model that they fit.

    Raises:
        CheckpointError: they are not.
    """
    config = published_config(converted)
    if config is None:
        return "No shipped config has a model of this size; nothing to compare with."
    node = load_model_config(config)
    node.language_backbone.pretrained = False
    try:
        with torch.device("meta"):
            model = instantiate(node)
    except ConfigError as error:  # the tokenizer is neither here nor to be fetched
        return f"Not compared with the model of {config}: {error}"
    check_weights(model, dict(converted), source=f"'{source}'", strict=True)
    return f"They are the weights of {config}: none is missing, none is too many, all shapes fit."


def _table(official: Mapping[str, torch.Tensor], converted: Mapping[str, torch.Tensor]) -> str:
    """What became of the official tensors, as lines of text."""
    mapped, left_out = defaultdict(list), defaultdict(list)
    for name, value in official.items():
        reason = OfficialGlip().explain_left_out(name)
        if reason is None:
            mapped[_part(name)].append(value.numel())
        else:
            left_out[reason].append(name)
    kept = sum(map(len, mapped.values()))
    lines = [f"{len(official)} official tensors, {kept} mapped to {len(converted)} of ours:"]
    for part in PARTS:
        values = mapped[part]
        lines.append(f"  {part:20s} {len(values):5d} tensors {sum(values) / 1e6:10.3f} M values")
    total = sum(sum(values) for values in mapped.values())
    lines.append(f"  {'sum':20s} {kept:5d} tensors {total / 1e6:10.3f} M values")
    lines.append(f"{len(official) - kept} not needed:")
    for reason, names in left_out.items():
        example = names[0] if len(names) == 1 else f"{names[0]}, ..."
        lines.append(f"  {len(names):3d}  {reason} ({example})")
    return "\n".join(lines)


def _part(name: str) -> str:
    return next(part for part, starts in PARTS.items() if name.startswith(starts))
