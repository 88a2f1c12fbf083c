#!/usr/bin/env python
"""Convert the weights of an official GLIP (microsoft/GLIP) to this project's names.

    python tools/convert_glip_weights.py glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.safetensors

The official files load as they are, too (tools/detect.py --weights, train.init_checkpoint,
Detectron2's own checkpointer); converted ones are smaller, since a released file also holds the
state of its training, and load faster. Printed is what became of every official tensor: where it
went, or why it is not needed; a tensor that is neither is an error. The result is compared with the
model of the config that it fits. The target must end in .pth or .safetensors.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.config import instantiate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a bare clone works too

from glipv2_d2.checkpoint import (
    OfficialGlip,
    check_weights,
    convert_official_glip,
    published_config,
    read_checkpoint,
    save_safetensors,
)
from glipv2_d2.config import load_model_config
from glipv2_d2.errors import CheckpointError, ConfigError, command
from glipv2_d2.files import whole_file

PARTS = {
    "backbone.bottom_up": ("backbone.body.",),
    "backbone (FPN)": ("backbone.fpn.",),
    "language_backbone": ("language_backbone.",),
    "neck": ("rpn.head.dyhead_tower.",),
    "head": ("rpn.",),
}


def convert(source: Path, target: Path, *, force: bool) -> None:
    """Write the converted weights and print the table.

    Raises:
        ConfigError: the target has another suffix, is there already, or is the source.
        CheckpointError: the source is no official GLIP, or holds what has no place in ours.
    """
    _check_target(source, target, force)
    official = read_checkpoint(source)["model"]
    if not OfficialGlip().recognizes(official):
        raise CheckpointError(
            f"'{source}' holds no official GLIP (no weight is named rpn.head.dyhead_tower.*). "
            "Weights of this project need no conversion; tools/export_weights.py makes them small."
        )
    try:
        converted = convert_official_glip(official)
    except CheckpointError as error:
        raise CheckpointError(f"'{source}': {error}") from error
    print(_table(official, converted))
    print(_compare(converted, source))
    target.parent.mkdir(parents=True, exist_ok=True)
    notes = {"converted_from": source.name, "official_tensors": len(official)}
    if target.suffix == ".pth":
        with whole_file(target) as file:
            torch.save({"model": converted, "notes": notes}, file)
    else:
        save_safetensors({k: v.contiguous() for k, v in converted.items()}, target, notes)
    print(f"{target}: {len(converted)} tensors, {target.stat().st_size / 1e6:.1f} MB")


def _check_target(source: Path, target: Path, force: bool) -> None:
    if target.suffix not in (".safetensors", ".pth"):
        raise ConfigError(f"The target must end in .safetensors or .pth, got '{target.name}'.")
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError("The target is the source: the official file would be overwritten.")
    if target.exists() and not force:
        raise ConfigError(f"'{target}' is there already; --force overwrites it.")


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


@command
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the released file, .pth")
    parser.add_argument("target", type=Path, help="FILE.safetensors or FILE.pth")
    parser.add_argument("--force", action="store_true", help="overwrite the target")
    args = parser.parse_args(argv)
    convert(args.source, args.target, force=args.force)
    return 0


if __name__ == "__main__":
    sys.exit(main())
