"""`glip export`: write a model as graphs, or for fixed names as weights, and check it."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from ..checkpoint import build_for_weights, freeze_vocabulary, load_prompt, load_weights
from ..config import apply_overrides, get_config, named_setting
from ..engine import GroundingPredictor
from ..engine.evaluate import asked_as_trained, pair_test_sets, require_test_data
from ..engine.exemplars import LVIS_NAMES
from ..engine.image_input import image_input
from ..errors import ExportError
from ..export import ExportedGLIP, check_export, export_glip
from ..export.package import require_int8
from ..language import Prompt
from ..language.frozen_tokenizer import FrozenTokenizer
from ..language.prompt_text import read_prompt
from ..modeling import GLIP
from .detection.inputs import find_images

INPUTS = 64  # for int8
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
    if Path(args.output).exists():
        raise ExportError(f"'{args.output}' exists already: remove it, or give another --output")
    if args.int8:
        require_int8(args.format)
    if args.int8 and args.check:
        raise ExportError(
            "--check compares digits that int8 does not have: evaluate what is written in place of "
            "the weights (glip eval --weights OUTPUT)"
        )
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
            calibration=_calibration(args.int8, config, model, inference, prompts),
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


def _calibration(
    source: str | None, config: DictConfig, model: GLIP, inference: dict, prompts: Sequence[Prompt]
) -> list[dict]:
    """Inputs of the model as the option --int8 says; those of fixed prompts name none."""
    if source is None:
        return []
    inputs = _test_inputs(config, model) if source == "test" else _photos(source, model, inference)
    if not (prompts or isinstance(model.tokenizer, FrozenTokenizer)):
        return inputs
    return [{key: x[key] for key in ("image", "height", "width") if key in x} for x in inputs]


def _photos(source: str, model: GLIP, inference: dict) -> list[dict]:
    """Some photographs, each asked for some of LVIS's names."""
    sizes = {key: inference[key] for key in ("min_size", "max_size") if key in inference}
    predictor = GroundingPredictor(model, **sizes)
    names = list(LVIS_NAMES)
    files = find_images([source]).files
    if not files:
        raise ExportError(f"--int8 is calibrated on photographs, and '{source}' has none")
    prompts = model.tokenizer.split(names, size=model.chunk_size)
    return [
        {**image_input(predictor, file, file), "prompt": prompts[i % len(prompts)]}
        for i, file in enumerate(_spread(files, INPUTS))
    ]


def _test_inputs(config: DictConfig, model: GLIP) -> list[dict]:
    """Some of each of the config's test sets, as an evaluation asks them."""
    sets = pair_test_sets(config.get("dataloader", OmegaConf.create())).values()
    if not sets:
        raise ExportError("--int8 is calibrated on the test sets of the config, which has none")
    require_test_data(config.dataloader)
    most = max(INPUTS // len(sets), 1)
    as_trained, inputs = asked_as_trained(model), []
    for loader, _ in sets:
        with named_setting("dataloader.test"):
            data = instantiate(loader).dataset
        inputs += [as_trained(data[i]) for i in _spread(range(len(data)), most)]
    return inputs


def _spread(values: Sequence, most: int) -> list:
    """So many of them, or all, from the first to the last."""
    count = min(most, len(values))
    return [values[i * len(values) // count] for i in range(count)]


def _write_weights(model: GLIP, path: str, prompts: Sequence[Prompt], notes: dict) -> Path:
    if not prompts:
        raise ExportError(
            "weights without a language model are for fixed names: give them (--prompt "
            '"cat, dog"), or use the weights that are there'
        )
    return freeze_vocabulary(model, prompts, path, notes=notes)


def _prompts(model: GLIP, text: str, kind: str) -> list[Prompt]:
    if text.endswith(".safetensors"):
        return load_prompt(model, text)
    prompt = read_prompt(text, kind)
    if isinstance(prompt, Prompt):
        return [prompt]
    return model.tokenizer.split(prompt, size=model.chunk_size)
