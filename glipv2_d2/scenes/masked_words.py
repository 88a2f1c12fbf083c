"""Measures how well masked color and shape words of captions are predicted.

How much better the right image makes the answer than another image does is what the fusion tells
the words about the image (GLIPv2's masked language modeling, Section 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.datasets.scenes import COLORS, SHAPES
from ..errors import UsageError
from ..language.prompt import Prompt
from ..language.tokenized import TokenizedPrompts
from .captions import PLURALS

__all__ = ["KINDS", "WordQuestion", "mask_phrases", "masked_word_accuracy", "word_questions"]

KINDS = ("color", "shape")
# Every word for a shape -> the shape.
_SHAPE_OF = {shape: shape for shape in SHAPES} | {word: shape for shape, word in PLURALS.items()}
_WORD = re.compile(r"\w+")


class WordQuestion(NamedTuple):
    """A word to be predicted.

    Attributes:
        prompt: the caption, with the word as its only phrase.
        kind: of `KINDS`.
        decided: whether the objects of the image leave no other answer; see `word_questions`.
    """

    prompt: Prompt
    kind: str
    decided: bool


def word_questions(caption: str, objects: Collection[tuple[str, str]]) -> list[WordQuestion]:
    """Find the color and shape words of a caption.

    Not every word can be told from the image: where there are several objects, "the only [MASK]
    object" may be any of them. A color is `decided` if all objects of the shape that is named
    behind it (all objects, if none is) have one color; a shape likewise by the color before it.
    More words than these are decided by relations ("left of") and numbers.

    Args:
        objects: (color, shape) of everything in the image.
    """
    words = [(match.group(), match.span()) for match in _WORD.finditer(caption)]
    before = ["", *(word for word, _ in words)]
    behind = [*(word for word, _ in words[1:]), ""]
    questions = []
    for (word, span), previous, following in zip(words, before, behind):
        if word in COLORS:
            shape = _SHAPE_OF.get(following)
            possible = {c for c, s in objects if shape in (None, s)}
            kind = "color"
        elif word in _SHAPE_OF:
            color = previous if previous in COLORS else None
            possible = {s for c, s in objects if color in (None, c)}
            kind = "shape"
        else:
            continue
        prompt = Prompt.from_caption(caption, [[span]])
        questions.append(WordQuestion(prompt, kind, len(possible) == 1))
    return questions


def mask_phrases(tokens: TokenizedPrompts, mask_token_id: int) -> tuple[TokenizedPrompts, Tensor]:
    """Mask all phrases of each prompt, and tell where: (B, T) bool."""
    asked = torch.stack([phrases.any(dim=0) for phrases in tokens.positive_maps])
    return replace(tokens, input_ids=tokens.input_ids.masked_fill(asked, mask_token_id)), asked


@torch.no_grad()
def masked_word_accuracy(
    model,
    records: Sequence[dict],
    read_image: Callable[[dict], dict],
    objects: Mapping[str, Collection[tuple[str, str]]],
    batch_size: int = 16,
) -> dict[str, dict[str, dict[str, float]]]:
    """Predict masked words, with the right image and with that of another record.

    The prediction is the best entry of the whole vocabulary. The other image is that of the record
    half the list away.

    Args:
        model: a GLIPv2 with `mlm_head`, in evaluation mode.
        records: with "file_name" and "caption".
        read_image: gives the model's input for a record; its prompt is not used.
        objects: (color, shape) of everything in an image, by file name.
        batch_size: images, and captions, that go through the model together.

    Returns:
        `right_image` and `other_image` -> kind of word -> `words`, `top1` (0 to 1),
        `decided_words`, `decided_top1` (see `word_questions`; nan without words).

    Raises:
        UsageError: the model has no `mlm_head`, or there are fewer than two records.
    """
    if getattr(model, "mlm_head", None) is None:
        raise UsageError(f"{type(model).__name__} predicts no words: it has no mlm_head")
    if len(records) < 2:
        raise UsageError("other images are taken from other records: give two or more")
    result = {}
    for name, shift in (("right_image", 0), ("other_image", len(records) // 2)):
        answers: list[tuple[WordQuestion, bool]] = []
        for start in range(0, len(records), batch_size):
            chosen = records[start : start + batch_size]
            asked = [
                (i, question)
                for i, record in enumerate(chosen)
                for question in word_questions(record["caption"], objects[record["file_name"]])
            ]
            others = range(start + shift, start + shift + len(chosen))
            shown = [read_image(records[i % len(records)]) for i in others]
            answers += _answers(model, shown, asked, batch_size)
        result[name] = {kind: _accuracy(answers, kind) for kind in KINDS}
    return result


def _answers(
    model, inputs: list[dict], asked: list[tuple[int, WordQuestion]], batch_size: int
) -> list[tuple[WordQuestion, bool]]:
    """Tell whether each question is answered right; `asked`: with the index of its image."""
    features = model.visual_features(model.preprocess_image(inputs))
    answers: list[tuple[WordQuestion, bool]] = []
    for start in range(0, len(asked), batch_size):
        images, questions = zip(*asked[start : start + batch_size])
        tokens = model.tokenizer([q.prompt for q in questions]).to(model.device)
        shown, masked = mask_phrases(tokens, model.tokenizer.mask_token_id)
        levels = [level[list(images)] for level in features]
        _, words = model.neck(levels, model.language_backbone(shown))
        right = torch.ones_like(masked)
        best = model.mlm_head.logits(words[masked]).argmax(dim=-1)
        right[masked] = best == tokens.input_ids[masked]
        answers += zip(questions, right.all(dim=1).tolist())
    return answers


def _accuracy(answers: list[tuple[WordQuestion, bool]], kind: str) -> dict[str, float]:
    result: dict[str, float] = {}
    for prefix, among in (("", answers), ("decided_", [a for a in answers if a[0].decided])):
        right = [right for question, right in among if question.kind == kind]
        result[f"{prefix}words"] = len(right)
        result[f"{prefix}top1"] = sum(right) / len(right) if right else float("nan")
    return result
