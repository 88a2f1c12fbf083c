"""A model for one vocabulary as a file of weights, without tokenizer and language model."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyCall as L
from omegaconf import DictConfig, OmegaConf

from ..errors import CheckpointError
from ..language.frozen_tokenizer import FrozenTokenizer
from ..language.prompt import Prompt
from ..modeling import GLIP
from ..modeling.text import FrozenVocabulary, build_language_backbone
from ..modeling.weights import WEIGHTS_REGISTRY
from .reading import read_checkpoint, weight_names
from .safetensors_path import plain_path
from .writing import release_state, save_safetensors

__all__ = ["freeze_vocabulary", "frozen_tokenizer", "frozen_words", "with_frozen_vocabulary"]

# Parts that take the language model itself.
_READERS = ("mlm_head", "caption_head")
_LANGUAGE = "language_backbone"
_VOCABULARY, _WORDS = f"{_LANGUAGE}.vocabulary", f"{_LANGUAGE}.words"


@torch.no_grad()
def frozen_words(model: GLIP, prompts: Sequence[Prompt]) -> FrozenVocabulary:
    """What a model's language backbone makes of prompts, and what was learned about tuned ones.

    Args:
        model: in evaluation mode. prompts: see `FrozenTokenizer`.
    """
    neck: Any = model.neck
    tokenizer = FrozenTokenizer.of(model.tokenizer, prompts)
    words = [
        getattr(model.text_features(model.tokenizer([prompt]).to(model.device)), neck.reads)[0]
        for prompt in prompts
    ]
    vocabulary = FrozenVocabulary(model=tokenizer, channels=words[0].shape[1])
    vocabulary.words.copy_(torch.cat(words))
    return vocabulary


def freeze_vocabulary(
    model: GLIP,
    names: Sequence[str] | Sequence[Prompt],
    path: str | Path,
    *,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model that asks for these names alone, as one file of weights.

        freeze_vocabulary(predictor.model, ["cat", "traffic light"], "street.safetensors")
        street = GroundingPredictor.from_config("pretrain/glip_t.py", "street.safetensors")
        instances = street("photo.jpg", ["traffic light"])[0]

    It takes the place of the model's own weights, with the same config, wherever weights are given:
    it detects, is trained further (its words too) and exported. Its detections are those of the
    model, bit by bit: a weight is stored in float16 where that loses nothing, else as it is. Heads
    that take the language model (captions, masked words) are left out. The words are those before
    fusion: what an image makes of them is computed as ever.

    Args:
        model: put into evaluation mode.
        names: of classes, in chunks where the model takes them so; or prompts (`FrozenTokenizer`),
            also tuned ones.
        path: ends in ".safetensors". notes: how the model was made.

    Raises:
        CheckpointError: another ending.
        PromptError: see `FrozenTokenizer`, or a prompt is too long.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"a file of weights ends in .safetensors, got '{path.name}'")
    prompts = [name for name in names if isinstance(name, Prompt)]
    if not prompts:
        prompts = model.tokenizer.split([str(name) for name in names], size=model.chunk_size)
    words = frozen_words(model.eval(), prompts).state_dict(prefix=f"{_LANGUAGE}.")
    left_out = (f"{_LANGUAGE}.", "prompt_embeddings.", *(f"{name}." for name in _READERS))
    state = release_state(model, torch.float32)
    state = {name: value for name, value in state.items() if not name.startswith(left_out)}
    stored = {name: _halved(value) for name, value in {**state, **words}.items()}
    return save_safetensors(stored, path, notes or {})


def _halved(value: torch.Tensor) -> torch.Tensor:
    half = value.half()
    return half if value.is_floating_point() and torch.equal(half.float(), value) else value


@WEIGHTS_REGISTRY.register()
def frozen_tokenizer(path: str | Path) -> FrozenTokenizer:
    """The tokenizer in a file of weights.

    Raises:
        CheckpointError: the file is missing or damaged, or has no fixed vocabulary.
    """
    state = read_checkpoint(path)["model"]
    if _VOCABULARY not in state:
        raise CheckpointError(f"'{path}' has no fixed vocabulary: `glip export --format weights`")
    try:
        return FrozenTokenizer.from_json(state[_VOCABULARY].numpy().tobytes().decode())
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"the fixed vocabulary in '{path}' is damaged ({error}): write the file again"
        ) from error


def with_frozen_vocabulary(model: DictConfig, weights: str | Path) -> DictConfig:
    """A `model` node for weights with a fixed vocabulary; the same node for others.

    Its language backbone is the vocabulary, which is also what it asks for by default; heads that
    take a language model are left out.

    Args:
        model: left as it is. weights: the file; what is none (empty, a URL, not there) has none.

    Raises:
        CheckpointError: see `frozen_tokenizer`.
    """
    weights = plain_path(weights)
    if not Path(weights).is_file() or _VOCABULARY not in weight_names(weights):
        return model
    tokenizer = frozen_tokenizer(weights)
    model = copy.deepcopy(model)
    OmegaConf.resolve(model)  # other parts may ask the language backbone for settings
    model[_LANGUAGE] = L(build_language_backbone)(
        name="FrozenVocabulary",
        model=weights,
        channels=read_checkpoint(weights)["model"][_WORDS].shape[1],
        frozen=model[_LANGUAGE].get("frozen", False),
        max_tokens=tokenizer.max_tokens,
    )
    for name in _READERS:
        if name in model:
            model[name] = None
    OmegaConf.update(model, "vocabulary", tokenizer.names, force_add=True)
    return model
