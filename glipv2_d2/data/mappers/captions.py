"""Prompts of grounding records: their phrases, and captions that are too long."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import DataError
from ...language.positive_map import overlapping_tokens
from ...language.prompt import MASK, Prompt, answer_span
from ...language.spans import Span, phrase_key, whole_caption
from ...language.tokenized import Tokenizer
from ..report import Record


class CaptionSample(NamedTuple):
    """A prompt and annotations whose `category_id` is the index of a phrase in it."""

    prompt: Prompt
    annotations: list[Record]


def grounding_sample(
    caption: str,
    annotations: Sequence[Record],
    own_span: Span | None = None,
    kind: str = "grounding",
) -> CaptionSample:
    """One phrase for each distinct set of spans, in the order of the caption.

    A box that belongs to several phrases has a phrase of its own, which holds all their spans.
    A caption without boxes is one phrase as a whole, so that the image can be trained on; that of
    another task needs none. `own_span`, `kind`: see Prompt.
    """
    keys = sorted({phrase_key(annotation["spans"]) for annotation in annotations})
    index = {key: k for k, key in enumerate(keys)}
    labeled = [{**a, "category_id": index[phrase_key(a["spans"])]} for a in annotations]
    if not keys and kind == "grounding":
        keys = [((0, len(caption)),)]
    prompt = Prompt.from_caption(caption, keys, own_span=own_span, kind=kind)
    return CaptionSample(prompt, labeled)


def evaluation_prompt(record: Record, annotations: Sequence[Record]) -> Prompt:
    """The phrases that a grounding record asks for.

    Its own list in its order (`phrases`, Flickr30k's `tokens_positive_eval`), or else those of its
    annotations. A record without a caption asks for one; a caption that is there is never
    continued, so that without phrases it is one as a whole.
    """
    kind, phrases = record.get("task", "grounding"), record.get("phrases")
    if "caption" not in record:
        return Prompt.unwritten()
    if kind == "caption" and not annotations:
        phrases = phrases or whole_caption(record["caption"])
    if phrases:
        return Prompt.from_caption(record["caption"], phrases, kind=kind)
    return grounding_sample(record["caption"], annotations, kind=kind).prompt


def cut_to_fit(
    record: Record, annotations: Sequence[Record], tokenizer: Tokenizer
) -> tuple[str, list[Record]]:
    """A training caption cut between two words so that it fits the token limit.

    A question that ends with `MASK` is cut before it.

    Returns:
        The caption, and the annotations with at least one whole span in it (spans behind the cut
        are taken from the others; a box without any span left is dropped).

    Raises:
        DataError: not even the first word fits.
    """
    caption = record["caption"]
    answer = answer_span(caption) if record.get("task") == "question" else None
    end = len(caption) if answer is None else answer[0]
    length = tokenizer.fitting_prefix(caption[:end], tokenizer.max_tokens - (answer is not None))
    if length == end:
        return caption, list(annotations)
    if length == 0:
        raise DataError(
            f"{record['file_name']}: the first word of the caption {caption[:60]!r} alone is "
            f"longer than the limit of {tokenizer.max_tokens} tokens"
        )
    shorter = caption[:length] if answer is None else f"{caption[:length]} {MASK}"
    moved = len(caption) - len(shorter)  # of what stands for the answer
    kept = []
    for annotation in annotations:
        spans = [span for span in annotation["spans"] if span[1] <= length]
        if answer is not None:
            spans += [[a - moved, b - moved] for a, b in annotation["spans"] if a >= answer[0]]
        if spans:
            kept.append({**annotation, "spans": spans})
    return shorter, kept


def with_tokens(caption: str, annotations: Sequence[Record], tokenizer: Tokenizer) -> list[Record]:
    """The annotations whose phrase has a token: some tokenizers remove all characters of a
    phrase (control characters, lone accents), and nothing can be aligned with it then.

    Raises:
        DataError: the whole caption has none.
    """
    offsets = tokenizer.offsets(caption)
    if not any(start < end for start, end in offsets):
        raise DataError(f"the tokenizer leaves nothing of the caption {caption[:60]!r}")
    has_token = overlapping_tokens([a["spans"] for a in annotations], offsets).any(1).tolist()
    return list(itertools.compress(annotations, has_token))


def moved_spans(annotations: Sequence[Record], characters: int) -> list[Record]:
    """The annotations of a caption in front of which so many characters were put."""
    return [
        {**a, "spans": [[start + characters, end + characters] for start, end in a["spans"]]}
        for a in annotations
    ]
