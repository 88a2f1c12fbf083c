"""`glip export`: write a model as graphs, or for fixed names as weights, and check it."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..checkpoint import build_for_weights, freeze_vocabulary, load_prompt, load_weights
from ..config import apply_overrides, get_config
from ..errors import ExportError
from ..export import ExportedGLIP, check_export, export_glip
from ..language import Prompt
from ..language.prompt_text import read_prompt
from ..modeling import GLIP

# What the predictor on an export needs of the config.
INFERENCE = (
    "min_size", "max_size", "score_threshold", "merge_iou", "phrase_threshold", "phrases",
    "shortlist", "pinned",
)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Build the model, write it, and check what was written if asked to.

    Raises:
        ExportError: the model cannot be exported, or what was written differs from it.
    """
    config = apply_overrides(get_config(args.config_file), args.overrides)
    model = _load(config, args.weights)
    prompts = () if args.prompt is None else _prompts(model, args.prompt, args.kind)
    notes = {"config": args.config_file, "weights": Path(args.weights).name}
    start = time.perf_counter()
    if args.format == "weights":
        written = _write_weights(model, args.output, prompts, notes)
        files = [written]
    else:
        settings: Any = OmegaConf.to_container(config.get("inference", OmegaConf.create()))
        inference = {key: settings[key] for key in INFERENCE if key in settings}
        written = export_glip(
            model, args.output,
            format=args.format, prompts=prompts, inference=inference, notes=notes,
        )  # fmt: skip
        files = sorted(path for path in written.rglob("*") if path.is_file())
    print(f"exported in {time.perf_counter() - start:.0f} s")
    for file in files:
        print(f"  {file} ({file.stat().st_size / 1e6:.1f} MB)")
    if args.check:
        again = _load(config, written) if args.format == "weights" else ExportedGLIP(written)
        print("largest difference from the model, on images and prompts of several sizes:")
        for name, difference in check_export(model, again).items():
            print(f"  {name}: {difference:.1e}")
    return 0


def _load(config: DictConfig, weights: str | Path) -> GLIP:
    model = build_for_weights(config.model, weights)
    if not isinstance(model, GLIP):
        raise ExportError(f"only GLIP models are exported; this is a {type(model).__name__}")
    load_weights(model, weights)
    return model


def _write_weights(model: GLIP, path: str, prompts: Sequence[Prompt], notes: dict) -> Path:
    if not prompts:
        raise ExportError(
            "weights without a language model are for fixed names: give them (--prompt "
            '"cat, dog"), or use the weights that are there'
        )
    if Path(path).exists():
        raise ExportError(f"'{path}' exists already: remove it, or name another file")
    return freeze_vocabulary(model, prompts, path, notes=notes)


def _prompts(model: GLIP, text: str, kind: str) -> list[Prompt]:
    if text.endswith(".safetensors"):
        return load_prompt(model, text)
    prompt = read_prompt(text, kind)
    if isinstance(prompt, Prompt):
        return [prompt]
    return model.tokenizer.split(prompt, size=model.chunk_size)
