"""What is measured on what: one picklable object that every process of a run gets."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from glipv2_d2.checkpoint import load_weights
from glipv2_d2.compat import PRECISIONS
from glipv2_d2.config import apply_overrides, get_config
from glipv2_d2.errors import ConfigError

from .weights import make_lively


@dataclass(frozen=True)
class Settings:
    """Of one run.

    Attributes:
        config: LazyConfig of the model. overrides: `path.key=value` for it.
        weights: a checkpoint; None: seeded random weights that keep activations alive.
        seed: of random weights and of what else is random.
        device: "cpu", "cuda", ...
        threads: of PyTorch on the CPU.
        size: (height, width) of the images in pixels.
        images: files; empty: photographs that come with scikit-image.
        candidates: (anchor, class) pairs that random weights are calibrated to put above the score
            threshold.
        repeats: timed calls of each side.
        quick: a small Grounding DINO, too.
    """

    config: str
    overrides: Sequence[str] = ()
    weights: str | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    size: tuple[int, int] = (800, 1216)
    images: Sequence[str] = ()
    candidates: int = 1000
    repeats: int = 3
    quick: bool = False

    def prepare(self) -> None:
        """Threads, seed and precision of this process; call it before anything is computed."""
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        # "float32" means float32 on CUDA too: outputs are compared to 1e-4, TF32 has 10 bits.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def autocast(self, precision: str):
        """A context manager for "float32", "bf16" or "fp16"."""
        if precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=PRECISIONS[precision])


def model_config(config: str, overrides: Sequence[str]) -> DictConfig:
    """The model of a LazyConfig.

    Raises:
        ConfigError: the config is not there or is no GLIP.
    """
    whole = apply_overrides(get_config(config), overrides)
    if "model" not in whole or "language_backbone" not in whole.model:
        raise ConfigError(f"{config} describes no GLIP model: it has no language backbone")
    return whole.model


def build_model(settings: Settings) -> nn.Module:
    """The GLIP model, in evaluation mode, on its device.

    Raises:
        ConfigError, CheckpointError: the config is not there or is no GLIP; the weights do not fit.
    """
    described = model_config(settings.config, settings.overrides)
    language = described.language_backbone
    # A frozen encoder's weights come from its package, not from the checkpoint.
    if settings.weights is None or not language.get("frozen", False):
        language.pretrained = False
    torch.manual_seed(settings.seed)
    model = instantiate(described)
    if settings.weights is None:
        make_lively(model, settings.seed)
    else:
        load_weights(model, settings.weights)
    return model.eval().to(settings.device)
