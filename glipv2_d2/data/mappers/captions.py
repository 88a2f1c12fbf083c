"""Prompts of grounding records: phrases, captions that are too long, captions as negatives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...errors import DataError
from ...language.positive_map import overlapping_tokens
from ...language.prompt import Prompt
from ...language.spans import phrase_key

Record = dict[str, Any]


class CaptionSample(NamedTuple):
    """A prompt and annotations whose `category_id` is the index of a phrase in it."""

    prompt: Prompt
    annotations: list[Record]


class SurroundedCaption(NamedTuple):
    """A caption among others, the spans of its annotations in it, and where it stands itself."""

    caption: str
    annotations: list[Record]
    own_span: tuple[int, int]


def grounding_sample(
    caption: str, annotations: Sequence[Record], own_span: tuple[int, int] | None = None
) -> CaptionSample:
    """One phrase for each distinct set of spans, in the order of the caption.

    A box that belongs to several phrases has a phrase of its own, which holds all their spans.
    A caption without boxes is one phrase as a whole, so that the image can be trained on.
    `own_span`: see Prompt.
    """
    keys = sorted({phrase_key(annotation["spans"]) for annotation in annotations})
    index = {key: k for k, key in enumerate(keys)}
    labeled = [{**a, "category_id": index[phrase_key(a["spans"])]} for a in annotations]
    prompt = Prompt.from_caption(caption, keys or [[(0, len(caption))]], own_span=own_span)
    return CaptionSample(prompt, labeled)


def evaluation_prompt(record: Record, annotations: Sequence[Record]) -> Prompt:
    """The phrases that a grounding record asks for: its own list in its order (`phrases`,
    Flickr30k's `tokens_positive_eval`), or else those of its annotations."""
    phrases = record.get("phrases")
    if phrases:
        return Prompt.from_caption(record["caption"], phrases)
    return grounding_sample(record["caption"], annotations).prompt


def cut_to_fit(
    record: Record, annotations: Sequence[Record], tokenizer
) -> tuple[str, list[Record]]:
    """A training caption cut between two words so that it fits the token limit.

    Returns:
        The caption, and the annotations with at least one whole span in it (spans behind the cut
        are taken from the others; a box without any span left is dropped).

    Raises:
        DataError: not even the first word fits.
    """
    caption = record["caption"]
    length = tokenizer.fitting_prefix(caption)
    if length == len(caption):
        return caption, list(annotations)
    if length == 0:
        raise DataError(
            f"{record['file_name']}: the first word of the caption {caption[:60]!r} alone is "
            f"longer than the limit of {tokenizer.max_tokens} tokens"
        )
    kept = []
    for annotation in annotations:
        spans = [span for span in annotation["spans"] if span[1] <= length]
        if spans:
            kept.append({**annotation, "spans": spans})
    return caption[:length], kept


def with_tokens(caption: str, annotations: Sequence[Record], tokenizer) -> list[Record]:
    """The annotations whose phrase has a token: some tokenizers remove all characters of a
    phrase (control characters, lone accents), and nothing can be aligned with it then.

    Raises:
        DataError: the whole caption has none.
    """
    offsets = tokenizer.encode(caption).offsets
    if not any(start < end for start, end in offsets):
        raise DataError(f"the tokenizer leaves nothing of the caption {caption[:60]!r}")
    has_token = overlapping_tokens([a["spans"] for a in annotations], offsets).any(1).tolist()
    return list(itertools.compress(annotations, has_token))


def surround_with_captions(
    caption: str,
    annotations: Sequence[Record],
    file_name: str,
    pool: Sequence[tuple[str, str]],
    count: int,
    tokenizer,
) -> SurroundedCaption:
    """Put captions of other images before and behind a caption, in random order.

    Args:
        caption: of the image; kept word for word.
        annotations: their spans are moved along.
        file_name: captions of this image are no negatives.
        pool: (file name, caption) pairs.
        count: so many negatives, fewer where they do not fit the token limit.
        tokenizer: tells what fits.

    Returns:
        The long caption, the annotations with their spans in it, and the span of `caption`.
    """
    if not len(pool):
        return SurroundedCaption(caption, list(annotations), (0, len(caption)))
    room = tokenizer.max_tokens - tokenizer.num_tokens(caption)
    negatives: list[str] = []
    for _ in range(count):
        other_file, other = pool[random.randrange(len(pool))]
        if not other or other_file == file_name or other == caption or other in negatives:
            continue
        # One token for the stop that may have to stand between two captions.
        cost = tokenizer.num_tokens(other) - tokenizer.num_special_tokens + 1
        if cost <= room:
            room -= cost
            negatives.append(other)
    position = random.randint(0, len(negatives))
    before = "".join(_sentence(text) for text in negatives[:position])
    behind = negatives[position:]
    after = " ".join(_sentence(text).rstrip() for text in behind)
    whole = before + (_sentence(caption) + after if after else caption)
    moved = [
        {**a, "spans": [[s + len(before), e + len(before)] for s, e in a["spans"]]}
        for a in annotations
    ]
    return SurroundedCaption(whole, moved, (len(before), len(before) + len(caption)))


def _sentence(text: str) -> str:
    """The text with an end mark and a space behind it."""
    return text + (" " if text.rstrip().endswith((".", "!", "?")) else ". ")
