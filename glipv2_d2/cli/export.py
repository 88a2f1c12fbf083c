"""`glip export`: write a model as graphs, and check them."""

import argparse
import time
from pathlib import Path

from ..checkpoint import build_for_weights, load_prompt, load_weights
from ..config import apply_overrides, get_config
from ..errors import ExportError
from ..export import ExportedGLIP, check_export, export_glip
from ..language import Prompt
from ..language.prompt_text import read_prompt
from ..modeling import GLIP

INFERENCE = ("min_size", "max_size", "score_threshold", "merge_iou")


def run(args: argparse.Namespace) -> int:
    """Build the model, write its graphs, and check them if asked to.

    Raises:
        ExportError: the model cannot be exported, or what was written differs from it.
    """
    config = apply_overrides(get_config(args.config_file), args.overrides)
    model = build_for_weights(config.model, args.weights)
    if not isinstance(model, GLIP):
        raise ExportError(f"only GLIP models are exported; this is a {type(model).__name__}")
    load_weights(model, args.weights)
    inference = config.get("inference", {})
    start = time.perf_counter()
    folder = export_glip(
        model,
        args.output,
        format=args.format,
        prompts=_prompts(model, args.prompt, args.kind) if args.prompt is not None else (),
        inference={key: inference[key] for key in INFERENCE if key in inference},
        notes={"config": args.config_file, "weights": Path(args.weights).name},
    )
    print(f"exported in {time.perf_counter() - start:.0f} s")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"  {file} ({file.stat().st_size / 1e6:.1f} MB)")
    if args.check:
        print("largest difference from the model, on images and prompts of several sizes:")
        for name, difference in check_export(model, ExportedGLIP(folder)).items():
            print(f"  {name}: {difference:.1e}")
    return 0


def _prompts(model: GLIP, text: str, kind: str) -> list[Prompt]:
    if text.endswith(".safetensors"):
        return load_prompt(model, text)
    prompt = read_prompt(text, kind)
    if isinstance(prompt, Prompt):
        return [prompt]
    return model.tokenizer.split(prompt, size=model.chunk_size)
