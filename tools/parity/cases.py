"""Reads the files with the official model's inputs and outputs."""

import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from detectron2.data.detection_utils import read_image

from glipv2_d2.errors import UserError
from glipv2_d2.language import Prompt, clean_name

_REQUIRED = ("input", "image_sizes", "input_ids", "attention_mask")


class CaseError(UserError, ValueError):
    """A file that cannot be compared with; the message says what it lacks."""


@dataclass
class ParityCase:
    """The official model's run on B images; arrays under its own names."""

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict

    @classmethod
    def load(cls, path: str | Path) -> "ParityCase":
        """Read a .npz file.

        Raises:
            CaseError: it is missing, damaged or no such case.
        """
        path = Path(path)
        try:
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
            meta = json.loads(str(arrays.pop("meta")))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CaseError(f"'{path}' cannot be read as a parity case: {error}") from error
        lacking = [key for key in _REQUIRED if key not in arrays]
        lacking += [key for key in ("captions", "prompts") if key not in meta]
        if lacking:
            raise CaseError(f"'{path}' is no complete parity case: {', '.join(lacking)} missing")
        return cls(path, arrays, meta)

    @property
    def name(self) -> str:
        return str(self.meta.get("case", self.path.stem))

    @property
    def sampled(self) -> dict[str, dict]:
        """Of tensors that are stored in part: shape, stride and statistics of the whole."""
        return self.meta.get("sampled", {})

    @property
    def num_tokens(self) -> int:
        """T, the longest prompt of the batch; language tensors are stored so wide."""
        return int(self.arrays["attention_mask"].sum(axis=1).max())

    @property
    def image_sizes(self) -> list[tuple[int, int]]:
        """(height, width) without padding."""
        return [(int(h), int(w)) for h, w in self.arrays["image_sizes"]]

    @property
    def input(self) -> torch.Tensor:
        """(B, 3, H, W), normalized and padded."""
        return torch.from_numpy(self.arrays["input"])

    @cached_property
    def images(self) -> list[torch.Tensor] | None:
        """(3, h, w) uint8, BGR, from the pictures beside the file; None if one is missing."""
        names = self.meta.get("images", [])
        paths = [self.path.parent / name for name in names]
        if len(paths) != len(self.image_sizes) or not all(path.is_file() for path in paths):
            return None
        pictures = [read_image(str(path), format="BGR") for path in paths]
        return [torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in pictures]

    def readings(self, image: int) -> list[Prompt]:
        """What the prompt of an image can mean; see `phrase_prompts`."""
        caption, entry = self.meta["captions"][image], self.meta["prompts"][image]
        if entry[0] == "det":
            return _detection_prompts(caption, entry[1])
        if entry[0] == "phrase":
            return phrase_prompts(caption, entry[2])
        raise CaseError(
            f"'{self.path}' has a prompt of the unknown kind {entry[0]!r}: 'det' or 'phrase'"
        )


def _detection_prompts(caption: str, names: Sequence[str]) -> list[Prompt]:
    prompt = Prompt.from_classes(names)
    if prompt.caption == caption:
        return [prompt]
    # Another separator than that of detection: the names stand in the caption in their order.
    return [_in_order(caption, [clean_name(name) for name in names])]


def phrase_prompts(caption: str, phrases: Sequence[str]) -> list[Prompt]:
    """The prompts that a caption with phrases can stand for, most likely first.

    The files name phrases, not character spans, which is ambiguous where a phrase occurs several
    times: its first occurrence, those in the order of the phrases, or all together.
    """
    spans = [_occurrences(caption, phrase) for phrase in phrases]
    prompts = [Prompt.from_caption(caption, [found[:1] for found in spans])]
    if any(len(found) > 1 for found in spans):
        prompts += [_in_order(caption, phrases), Prompt.from_caption(caption, spans)]
    return prompts


def _occurrences(caption: str, phrase: str) -> list[tuple[int, int]]:
    pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)"
    found = [match.span() for match in re.finditer(pattern, caption, re.IGNORECASE)]
    if not found:
        raise CaseError(f"the phrase {phrase!r} does not occur in the caption {caption!r}")
    return found


def _in_order(caption: str, phrases: Sequence[str]) -> Prompt:
    spans, position = [], 0
    for phrase in phrases:
        found = _occurrences(caption, phrase)
        span = next((s for s in found if s[0] >= position), found[0])
        spans.append([span])
        position = span[1]
    return Prompt.from_caption(caption, spans)


def choose_prompt(readings: Sequence[Prompt], fits: Callable[[Prompt], bool]) -> Prompt:
    """The first reading that fits what the file says of its tokens; else the most likely one."""
    return next((prompt for prompt in readings if fits(prompt)), readings[0])


@dataclass
class TrainingCase:
    """The official model's losses and gradients on the images of a `ParityCase`."""

    path: Path
    values: dict
    case: ParityCase

    @classmethod
    def load(cls, path: str | Path, cases: Sequence[ParityCase] = ()) -> "TrainingCase":
        """Read a .json file.

        Args:
            path: the file; it names its case.
            cases: where that case is looked for, before `case_<name>.npz` beside the file.

        Raises:
            CaseError: it is missing, damaged or its case cannot be found.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CaseError(f"'{path}' cannot be read as a training case: {error}") from error
        lacking = [key for key in ("case", "targets_in", "losses") if key not in values]
        if lacking:
            raise CaseError(f"'{path}' is no training case: {', '.join(lacking)} missing")
        named = [case for case in cases if case.name == values["case"]]
        beside = path.with_name(f"case_{values['case']}.npz")
        if not named and not beside.is_file():
            raise CaseError(
                f"'{path}' needs the captions and images of case {values['case']!r}: give its .npz "
                f"file, too, or put it beside as {beside.name}"
            )
        return cls(path, values, named[0] if named else ParityCase.load(beside))
