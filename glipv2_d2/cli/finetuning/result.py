"""Which weights are the result of a fine-tuning, and their file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from ...checkpoint import (
    GLIPCheckpointer,
    build_for_weights,
    merge_weights,
    release_state,
    save_safetensors,
)

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


def write_model(
    config: DictConfig, best: Path, alpha: float, target: Path, notes: Mapping[str, object]
) -> None:
    """Write the result as a release file.

    Args:
        config: of the training.
        best: checkpoint of the tuned model.
        alpha: share of what was learned.
        target: `.safetensors`.
        notes: of the file's header.
    """
    base = config.train.init_checkpoint
    model = build_for_weights(config.model, best)
    GLIPCheckpointer(model, strict=True).load(str(best), checkpointables=[])
    if alpha < 1:
        tuned = {name: value.clone() for name, value in model.state_dict().items()}
        GLIPCheckpointer(model, strict=True).load(base, checkpointables=[])
        model.load_state_dict(merge_weights(model.state_dict(), tuned, alpha))
    save_safetensors(release_state(model), target, notes)
