#!/usr/bin/env python
"""Write a model as graphs for programs that do not have its Python code (docs/export.md).

    python tools/export_model.py --config-file demo/scenes.py \\
        --weights weights/glip_scenes.safetensors --output output/exported --check
    python tools/export_model.py --config-file pretrain/glip_t.py --weights glip_t.pth \\
        --output output/street --format onnx --prompt "person, bicycle, traffic light"

The output is a folder with the graph from image to predictions, the language model as a second
graph, its tokenizer, and export.json with all settings. With --prompt the language model stays out:
what it makes of that prompt is stored instead. --check runs the result beside the model.
"""

import argparse
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a bare clone works too

import glipv2_d2  # noqa: F401  (registers the models)
from glipv2_d2.checkpoint import build_for_weights, load_weights
from glipv2_d2.config import apply_overrides, get_config
from glipv2_d2.errors import ExportError, command
from glipv2_d2.export import ExportedGLIP, check_export, export_glip
from glipv2_d2.language import Prompt
from glipv2_d2.language.prompt_text import PROMPT_KINDS, read_prompt
from glipv2_d2.modeling import GLIP

INFERENCE = ("min_size", "max_size", "score_threshold", "merge_iou")


def export(args: argparse.Namespace) -> Path:
    """Build the model, write its graphs, and check them if asked to; returns the folder."""
    config = apply_overrides(get_config(args.config_file), args.opts)
    model = build_for_weights(config.model, args.weights)
    if not isinstance(model, GLIP):
        raise ExportError(f"Only GLIP models are exported; this is a {type(model).__name__}.")
    load_weights(model, args.weights)
    inference = OmegaConf.to_container(OmegaConf.create(config.get("inference", {})))
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
    return folder


def _prompts(model: GLIP, text: str, kind: str) -> list[Prompt]:
    prompt = read_prompt(text, kind)
    if isinstance(prompt, Prompt):
        return [prompt]
    return model.tokenizer.split(prompt, size=model.chunk_size)


@command
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="path, or name of a shipped config")
    parser.add_argument("--weights", required=True, help=".safetensors or .pth, official GLIP too")
    parser.add_argument("--output", required=True, help="folder; made here")
    parser.add_argument("--format", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--prompt", help='the only one that the export answers, "cat, dog"')
    parser.add_argument("--kind", choices=PROMPT_KINDS, default="auto")
    parser.add_argument("--check", action="store_true", help="compare with the model afterwards")
    parser.add_argument("opts", nargs="*", default=[], help="path.key=value for the config")
    export(parser.parse_intermixed_args(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
