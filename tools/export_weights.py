#!/usr/bin/env python
"""Make a release file of a training run's checkpoint: small, and with notes on how it was made.

    python tools/export_weights.py output/model_final.pth weights/glip_scenes.safetensors \\
        --config-file configs/demo/scenes.py --command "make train-demo" --machine "2 CPU cores"

The averaged weights are taken where the checkpoint has them, stored as float16, without a frozen
language backbone that comes with its own pretrained weights. The checkpoint may be an official
GLIP, too. A target that ends in .pth is written with torch.save for programs that do not read
safetensors, such as Detectron2's DefaultPredictor.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from detectron2.config import instantiate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a bare clone works too

import glipv2_d2  # noqa: F401  (registers the models)
from glipv2_d2.checkpoint import (
    build_for_weights,
    load_weights,
    read_checkpoint,
    read_safetensors_metadata,
    release_state,
    save_safetensors,
)
from glipv2_d2.config import apply_overrides, get_config
from glipv2_d2.errors import ConfigError, command
from glipv2_d2.files import whole_file

PRECISIONS = {"float16": torch.float16, "float32": torch.float32}


def export(args: argparse.Namespace) -> Path:
    """Write the release file; returns its path."""
    target = Path(args.target)
    if target.suffix not in (".safetensors", ".pth"):
        raise ConfigError(f"The target must end in .safetensors or .pth, got '{target.name}'.")
    config = apply_overrides(get_config(args.config_file), args.opts)
    model = _build(config.model, args.checkpoint)
    load_weights(model, args.checkpoint)
    state = release_state(model, PRECISIONS[args.precision])
    notes = _notes(args, config)
    if target.suffix == ".pth":
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as file:
            torch.save({"model": state, "notes": notes}, file)
    else:
        save_safetensors(state, target, notes)
    size = target.stat().st_size / 1e6
    values = sum(value.numel() for value in state.values()) / 1e6
    print(f"{target}: {len(state)} tensors, {values:.2f} million values, {size:.1f} MB")
    print(json.dumps(notes, indent=2))
    return target


def _build(model, checkpoint: str):
    """The model; a frozen language backbone with the weights that it is compared with."""
    if model.get("language_backbone", {}).get("frozen", False):
        return instantiate(model)
    return build_for_weights(model, checkpoint)


def _notes(args: argparse.Namespace, config) -> dict[str, str]:
    """What made the weights: from the run itself where it is recorded, else from the caller."""
    if str(args.checkpoint).endswith(".safetensors"):
        return read_safetensors_metadata(args.checkpoint)  # a release file in another form
    checkpoint = read_checkpoint(args.checkpoint)
    notes = {
        "config": args.config_file,
        "overrides": " ".join(args.opts),
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


@command
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="for example output/model_final.pth")
    parser.add_argument("target", help="FILE.safetensors, or FILE.pth")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="float16")
    parser.add_argument("--command", default="", help="the command that trained the weights")
    parser.add_argument("--machine", default="", help='such as "2 CPU cores" or "one H200"')
    parser.add_argument("--hours", type=float, help="how long the training took")
    parser.add_argument("--seed", type=int, help="default: train.seed of the config")
    parser.add_argument("opts", nargs="*", default=[], help="path.key=value for the config")
    export(parser.parse_intermixed_args(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
