"""The part that times exports: each beside the model that it was made from."""

from collections.abc import Sequence
from pathlib import Path

import torch

from glipv2_d2.errors import ConfigError
from glipv2_d2.export import ExportedGLIP

from .inference import prepared_inputs
from .sides import SIDES, Bench, precision_of
from .timing import Clock, interleave


def measure_exported(
    bench: Bench, folders: Sequence[Path], kind: str, batch: int, sides: Sequence[str]
) -> list[dict]:
    """A row for each side and for each export, of OpenVINO in each precision that was asked for.

    Args:
        folders: of `glip export`, of the model with its weights.
        sides: "ours" among them. Those in bf16 ask for exports in bf16, too.

    Raises:
        ConfigError: no folders.
        ExportError: see `ExportedGLIP`.
    """
    if not folders:
        raise ConfigError("no exports are named: --exported FOLDER, once for each")
    inputs, clock = prepared_inputs(bench, kind, batch), Clock(bench.settings.device)
    exports = {str(folder): ExportedGLIP(folder, bench.settings.device) for folder in folders}
    calls = bench.calls(sides, inputs)
    what = {side: SIDES[side] for side in sides}

    def call(model: ExportedGLIP, precision: str) -> list[dict]:
        with torch.no_grad(), bench.settings.autocast(precision):
            return model(inputs)

    for name, model in exports.items():
        for precision in dict.fromkeys(precision_of(side) for side in sides):
            if precision != "float32" and model.manifest.format != "openvino":
                continue
            key = name if precision == "float32" else f"{name}, {precision}"
            calls[key] = lambda model=model, precision=precision: call(model, precision)
            products = "int8 and " if "int8" in model.manifest.notes else ""
            what[key] = f"{model.manifest.format}, {products}{precision}"
    scores = {name: _best_score(call()) for name, call in calls.items()}  # warm now
    timings = interleave(calls, bench.settings.repeats, clock)
    return [
        {
            "prompt": kind,
            "batch": batch,
            "side": name,
            "what": what[name],
            "seconds": timing.as_dict(),
            "times_ours": timings["ours"].median / timing.median,
            "score_difference": float((scores[name] - scores["ours"]).abs().max()),
        }
        for name, timing in timings.items()
    ]


def _best_score(outputs: list[dict]) -> torch.Tensor:
    """Of each image; 0 where nothing is found."""
    scores = [output["instances"].scores.float() for output in outputs]
    return torch.stack([torch.cat((found, found.new_zeros(1))).max() for found in scores])
