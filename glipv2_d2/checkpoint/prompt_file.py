"""A tuned prompt as a file of kilobytes, which is loaded onto the model that it was tuned on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import CheckpointError, PromptError
from ..language.prompt import Prompt, shorten
from ..modeling import GLIP
from .file_kinds import open_safetensors
from .names import DETECTOR_PARTS, plain_names
from .writing import save_safetensors

__all__ = ["PromptFile", "fingerprint", "load_prompt", "read_prompt_file", "save_prompt"]

FORMAT = "glipv2_d2 tuned prompt 1"


class PromptFile(NamedTuple):
    """What a file of a tuned prompt holds.

    Attributes:
        name: of the tuned prompt.
        prompts: one, or the chunks of a vocabulary, without ids.
        offsets: of each (n, L), see `PromptEmbeddings`.
        base: `fingerprint` of the model that it was tuned on.
        notes: how it was made.
    """

    name: str
    prompts: list[Prompt]
    offsets: list[torch.Tensor]
    base: str
    notes: dict[str, str]


def fingerprint(model: torch.nn.Module, parts: Sequence[str] = DETECTOR_PARTS) -> str:
    """The first 16 digits of a SHA-256 of parts of a model: of what it detects with by default, its
    encoders, neck and head.

    Of the weights in float16, in which they are released, so that a model is the same whichever of
    its files it comes from. Tuned prompts and other heads make no difference.
    """
    digest = hashlib.sha256()
    for part in parts:
        state = model.get_submodule(part).state_dict()
        for name, value in sorted(zip(plain_names(state), state.values())):
            if value.is_floating_point():  # of integers versions of `transformers` save others
                half = value.detach().to("cpu", torch.float16).contiguous()
                digest.update(f"{part}.{name} {tuple(half.shape)}\n".encode())
                digest.update(half.numpy())
    return digest.hexdigest()[:16]


def save_prompt(
    model: GLIP,
    path: str | Path,
    prompts: Sequence[Prompt],
    *,
    name: str,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write what was learned about prompts, in float16.

    Args:
        model: has their offsets.
        path: ends in ".safetensors".
        prompts: one, or the chunks of a vocabulary; each has an `embedding_id`.
        name: under which it is loaded.
        notes: how it was made.

    Raises:
        CheckpointError: another ending.
        PromptError: no prompts, or one whose offsets the model does not have.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"a prompt file ends in .safetensors, got '{path.name}'")
    if not prompts or any(prompt.embedding_id is None for prompt in prompts):
        raise PromptError("a prompt file holds tuned prompts, each with an embedding_id")
    offsets = [model.prompt_embeddings[str(prompt.embedding_id)] for prompt in prompts]
    state = {str(i): o.detach().cpu().half().contiguous() for i, o in enumerate(offsets)}
    header = {
        "file": FORMAT,
        "name": name,
        "prompts": json.dumps([asdict(replace(p, embedding_id=None)) for p in prompts]),
        "base": fingerprint(model),
        "notes": json.dumps({key: str(value) for key, value in (notes or {}).items()}),
    }
    return save_safetensors(state, path, header)


def read_prompt_file(path: str | Path) -> PromptFile:
    """Read a file of `save_prompt`.

    Raises:
        CheckpointError: there is no such file, or it is damaged, of another kind, or of a newer
            version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no prompt file '{path}'")
    with open_safetensors(path) as file:
        header = file.metadata() or {}
        if header.get("file") != FORMAT:
            raise CheckpointError(
                f"'{path}' is no prompt file of this version ({FORMAT!r} in its header); "
                "weights of a model are given as such (--weights)"
            )
        try:
            prompts = [Prompt(**fields) for fields in json.loads(header["prompts"])]
            offsets = [file.get_tensor(str(i)) for i in range(len(prompts))]
            notes = json.loads(header["notes"])
            return PromptFile(header["name"], prompts, offsets, header["base"], notes)
        except Exception as error:  # whatever a header that somebody wrote may lead to
            raise CheckpointError(
                f"the prompt file '{path}' is damaged ({error}): fetch or save it again"
            ) from error


def load_prompt(model: GLIP, path: str | Path, name: str | None = None) -> list[Prompt]:
    """Add a tuned prompt to the model that it was tuned on, which stays as it is.

        pets = load_prompt(model, "pets.prompt.safetensors")
        model([{"image": image, "prompt": pets}])

    Args:
        model: with its weights. path: of `save_prompt`.
        name: in place of that in the file, for two files of one name.

    Returns:
        The prompts that ask with it: one, or as many as the vocabulary took.

    Raises:
        CheckpointError: see `read_prompt_file`; it was tuned on another model; or the model has
            another tuned prompt of this name.
    """
    file = read_prompt_file(path)
    name = file.name if name is None else name
    own = fingerprint(model)
    if own != file.base:
        weights = file.notes.get("weights")
        known = f" ({weights})" if weights else ""
        raise CheckpointError(
            f"the tuned prompt '{path}' belongs to the model {file.base}{known}, and this one is "
            f"{own}: load it onto the weights that it was tuned on"
        )
    ids = [f"{name}/{i}" for i in range(len(file.prompts))]
    prompts = [replace(p, embedding_id=i) for p, i in zip(file.prompts, ids)]
    _check(model, prompts, file, path, name)
    for prompt, offsets in zip(prompts, file.offsets):
        if prompt.embedding_id not in model.prompt_embeddings.ids:
            model.prompt_embeddings.add(str(prompt.embedding_id), offsets)
    return prompts


def _check(
    model: GLIP, prompts: Sequence[Prompt], file: PromptFile, path: str | Path, name: str
) -> None:
    """Refuse offsets that are not of their prompt's tokens, or that take others' place."""
    lengths = model.tokenizer(prompts).mask.sum(dim=1).tolist()
    for prompt, length, offsets in zip(prompts, lengths, file.offsets):
        shape = (length, model.head.bias_lang.numel())
        if tuple(offsets.shape) != shape:
            raise CheckpointError(
                f"the prompt file '{path}' has offsets of shape {tuple(offsets.shape)} for "
                f"{shorten(prompt.caption)!r}, whose words are {shape} here: it was made with "
                "another tokenizer; tune the prompt anew"
            )
        if prompt.embedding_id in model.prompt_embeddings.ids:
            there = model.prompt_embeddings[prompt.embedding_id].detach().cpu().half()
            if there.shape != offsets.shape or not torch.equal(there, offsets.half()):
                raise CheckpointError(
                    f"the model has another tuned prompt {name!r} already: load '{path}' under a "
                    'name of its own, load_prompt(..., name="...")'
                )
