"""The prompts of a record as the model gets them, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...data.mappers.grounding import GroundingDatasetMapper
from ...language.prompt import Prompt

Record = dict[str, Any]


def training_prompt(record: Record, tokenizer: Any, **options: Any) -> tuple[Prompt, list[int]]:
    """A prompt that the training mapper makes of a record (another one each time), and the number
    of boxes of each of its phrases.

    Args:
        record: with `dataset_name`.
        tokenizer: a `PromptTokenizer`.
        options: of the `GroundingDatasetMapper`.
    """
    mapper = GroundingDatasetMapper(is_train=True, augmentations=[], tokenizer=tokenizer, **options)
    sample = mapper(record)
    boxes = [0] * len(sample["prompt"])
    if "instances" in sample:
        for phrase in sample["instances"].gt_classes.tolist():
            boxes[phrase] += 1
    return sample["prompt"], boxes


def evaluation_prompts(
    record: Record, tokenizer: Any, chunk_size: int | None = None
) -> list[Prompt]:
    """The prompts that a record is tested with: its caption, or the vocabulary in chunks."""
    mapper = GroundingDatasetMapper(
        is_train=False, augmentations=[], tokenizer=tokenizer, chunk_size=chunk_size
    )
    return mapper(record)["prompt"]


def describe_prompt(
    prompt: Prompt, tokenizer: Any, boxes: Sequence[int] | None = None, most: int = 100
) -> list[str]:
    """The caption, and for each phrase its name and the tokens that the positive map gives it.

    Args:
        prompt: what to describe.
        tokenizer: a `PromptTokenizer`.
        boxes: how many boxes each phrase has, to be told too.
        most: phrases without boxes are told only so far.
    """
    tokens = tokenizer([prompt])
    words = tokenizer.tokenizer.convert_ids_to_tokens(tokens.input_ids[0])
    lines = [
        f"{prompt.kind} prompt, {len(prompt)} phrases, {len(words)} of {tokenizer.max_tokens} "
        f"tokens: {prompt.caption!r}"
    ]
    untold = 0
    for k, (name, row) in enumerate(zip(prompt.names, tokens.positive_maps[0])):
        if k >= most and not (boxes and boxes[k]):
            untold += 1
            continue
        at = row.nonzero().flatten().tolist()
        pieces = " ".join(words[i] for i in at)
        count = "" if boxes is None else f"{boxes[k]} boxes, "
        lines.append(f"  {k}: {name!r}: {count}tokens {_ranges(at)}: {pieces}")
    if untold:
        lines.append(f"  ... and {untold} more")
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 7] -> "1-3, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
