"""Which weights are the result of a fine-tuning, and their file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from ...checkpoint import merge_weights, release_state, save_prompt, save_safetensors
from ...engine.transfer import PROMPT_FILE
from .running import built

MODEL_FILE = "model.safetensors"

# So much AP on one's own validation set may be given for what the base knew.
GIVEN = 1.0
RULE = (
    f"of the weights that lose at most {GIVEN:g} AP on your validation set against the tuned "
    "model, those with the best AP on the old classes"
)
Results = Mapping[str, Any]


class Point(NamedTuple):
    """AP of weights between base (alpha 0) and tuned model (alpha 1).

    Attributes:
        alpha: share of what was learned.
        own: AP on the validation set.
        old: AP by old set.
    """

    alpha: float
    own: float
    old: dict[str, float]

    @classmethod
    def of(cls, alpha: float, results: Results, val: str) -> Point:
        """From the results of an evaluation."""
        aps = {name: _ap(result) for name, result in results.items()}
        return cls(alpha, aps.pop(val), aps)

    @property
    def mean_old(self) -> float:
        """The mean over the old sets."""
        return sum(self.old.values()) / len(self.old)


def _ap(result: Results) -> float:
    value = result.get("bbox", {}).get("AP")  # None for NaN, and of foreign evaluators
    return math.nan if value is None else float(value)


def choose(points: Mapping[float, Point]) -> float:
    """The alpha of the result, by `RULE`.

    Args:
        points: by alpha; with 1, the tuned model.
    """
    tuned = points[1.0]
    if not tuned.old or math.isnan(tuned.mean_old):
        return 1.0
    allowed = [p for a, p in points.items() if a > 0 and not p.own < tuned.own - GIVEN]
    return max(allowed, key=lambda point: (point.mean_old, point.alpha)).alpha


def write_result(
    config: DictConfig, folder: Path, alpha: float, notes: Mapping[str, object]
) -> Path:
    """Write the result into the folder of the run: a release file, or that of a tuned prompt.

    Args:
        config: of the training.
        folder: with `training/model_best.pth`.
        alpha: share of what was learned.
        notes: of the file's header.
    """
    model, prompts = built(config, folder / "training" / "model_best.pth")
    if prompts:
        return save_prompt(model, folder / PROMPT_FILE, prompts, name=folder.name, notes=notes)
    if alpha < 1:
        base, _ = built(config, config.train.init_checkpoint)
        model.load_state_dict(merge_weights(base.state_dict(), model.state_dict(), alpha))
    return save_safetensors(release_state(model), folder / MODEL_FILE, notes)
