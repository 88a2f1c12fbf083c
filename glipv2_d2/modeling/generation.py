"""Captions, written word by word: greedy, beam search and nucleus sampling (Section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from ..errors import ConfigError, PromptTooLongError, UsageError
from ..language.prompt import Prompt, shorten
from .text.attention import KeyValueCache

if TYPE_CHECKING:
    from .meta_arch.glip import GLIP

__all__ = ["Decoding", "FusedWords", "NextWords", "Written", "search", "write_captions"]

NEVER = float("-inf")


@dataclass(frozen=True)
class Decoding:
    """How captions are written.

    Attributes:
        beam_size: beginnings that are followed at once; 1: greedy.
        min_length, max_length: of a caption in tokens, without its beginning and end token.
        length_penalty: p, where captions are compared by log-probability / tokens^p: 0 prefers
            short ones, 1 (the mean) has no preference.
        top_p: sample from the most probable tokens that have this probability together (nucleus
            sampling, Holtzman et al. 2020); None: no sampling.
        temperature: divides the logits that are sampled from.
        seed: of the sampling, of each image anew.

    Raises:
        UsageError: a value of another type or out of range, or values that contradict.
    """

    beam_size: int = 5
    max_length: int = 20
    min_length: int = 1
    length_penalty: float = 1.0
    top_p: float | None = None
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for limit, holds in self._limits():
            if not holds:
                raise UsageError(f"captions cannot be written with {self}: {limit}")

    def _limits(self) -> Iterator[tuple[str, bool]]:
        """Each with whether it holds; the later ones compare what the earlier ones have checked."""
        yield "beam_size must be a whole number of 1 or more", _is_count(self.beam_size)
        yield "min_length must be a whole number of 1 or more", _is_count(self.min_length)
        yield (
            f"max_length must be a whole number of at least min_length={self.min_length}",
            _is_count(self.max_length) and self.max_length >= self.min_length,
        )
        yield "length_penalty must be finite", _is_finite(self.length_penalty)
        yield (
            "top_p must be above 0 and at most 1, or None",
            self.top_p is None or (_is_finite(self.top_p) and 0 < self.top_p <= 1),
        )
        yield (
            "temperature must be finite and above 0",
            _is_finite(self.temperature) and self.temperature > 0,
        )
        yield (
            "seed must be a whole number of 64 bits",
            _is_whole(self.seed) and -(2**63) <= self.seed < 2**63,
        )
        sampled = self.top_p is not None
        yield "beam_size must be 1 for sampling (top_p)", self.beam_size == 1 or not sampled
        yield "temperature is for sampling: give top_p, too", self.temperature == 1 or sampled
        yield "seed is for sampling: give top_p, too", self.seed == 0 or sampled


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _is_finite(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


class Written(NamedTuple):
    """A caption that the model wrote.

    Attributes:
        caption: its beginning included.
        score: the mean log-probability of the tokens written, the end token included.
    """

    caption: str
    score: float


class NextWords(Protocol):
    """What is searched: it tells the next token of texts, each of which grows by a token."""

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Go on with n tokens, (B, K, n) for K texts of each of B images -> (B, K, V)."""

    def select(self, texts: torch.Tensor) -> None:
        """Go on with these of the B K texts, (B K',) int64."""


@torch.no_grad()
def write_captions(
    model: GLIP,
    features: list[torch.Tensor],
    prompts: Sequence[Prompt],
    decoding: Decoding = Decoding(),
) -> list[Written]:
    """Write a caption of each image, from the start token to the end token.

    Args:
        model: in evaluation mode, with a `caption_head`.
        features: of B images, levels (B, C, h, w), see `GLIP.visual_features`.
        prompts: of each image, see `Prompt.unwritten`.
        decoding: how.

    Raises:
        ConfigError: the model has no caption head.
        UsageError: a prompt that is not to be written.
        PromptTooLongError: a beginning and `max_length` are longer than the model's longest prompt.
    """
    if getattr(model, "caption_head", None) is None:
        raise ConfigError(
            f"this {type(model).__name__} has no caption head, which writes captions: take a model "
            "that was trained with one (model.caption_head of a GLIPv2)"
        )
    tokenizer: Any = model.tokenizer
    head: Any = model.caption_head
    for prompt in prompts:
        if not prompt.causal or len(prompt):
            raise UsageError(
                f"the prompt {prompt.caption!r} is not a caption to be written: make one with "
                "Prompt.unwritten"
            )
    tokens = tokenizer(prompts)
    *_, end = tokenizer.encode("").ids
    starts = [ids[mask][:-1].tolist() for ids, mask in zip(tokens.input_ids, tokens.mask)]
    for prompt, start in zip(prompts, starts):
        _check_room(prompt, len(start), decoding, tokenizer.max_tokens)
    written: dict[int, Written] = {}
    # Beginnings of one length need no padding.
    for length in {len(start): None for start in starts}:
        rows = [i for i, start in enumerate(starts) if len(start) == length]
        words = head.next_words(model, [level[rows] for level in features])
        ids = torch.tensor([starts[i] for i in rows], device=model.device)
        found = search(words, ids, end, tokenizer.writable.to(ids.device), decoding)
        for i, (tokens, score) in zip(rows, found):
            written[i] = Written(tokenizer.decode(starts[i] + tokens), score)
    return [written[i] for i in range(len(starts))]


def _check_room(prompt: Prompt, length: int, decoding: Decoding, max_tokens: int) -> None:
    if length + decoding.max_length + 1 <= max_tokens:
        return
    raise PromptTooLongError(
        f"a beginning of {length} tokens ({shorten(prompt.caption)!r}), max_length="
        f"{decoding.max_length} and an end token are more than the {max_tokens} tokens of the "
        "longest prompt: shorten the beginning, or set a smaller max_length"
    )


class FusedWords:
    """The next words by the model itself; each token goes through it once.

    The images do not look at the text: their side of the tower is computed once and shared by all
    texts of an image.
    """

    def __init__(self, model: GLIP, features: list[torch.Tensor]):
        parts: Any = model
        self._backbone = parts.language_backbone
        self._neck = parts.neck
        self._head = parts.caption_head
        self._images = parts.neck.read_images(features)
        self._of_backbone, self._of_neck = KeyValueCache(), KeyValueCache()

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """See `NextWords`."""
        text = self._backbone.read_on(ids.flatten(0, 1), self._of_backbone)
        words = self._neck.read_on(text, self._images, self._of_neck)
        logits = self._head.logits(words[:, -1], self._backbone.word_embedding)
        return logits.unflatten(0, ids.shape[:2])

    def select(self, texts: torch.Tensor) -> None:
        """See `NextWords`."""
        self._of_backbone.select(texts)
        self._of_neck.select(texts)


def search(
    words: NextWords,
    start: torch.Tensor,
    end: int,
    writable: torch.Tensor,
    decoding: Decoding,
) -> list[tuple[list[int], float]]:
    """The best continuation that is found for each of B beginnings.

    Each step keeps the `beam_size` best of all continuations by a token, ended ones among them.

    Args:
        words: tells the next token.
        start: (B, n) int64, the tokens of the beginnings, the start token first.
        end: the end token.
        writable: (V,) bool, the tokens that a caption may have; `end` may be any.

    Returns:
        For each its tokens, without the end token, and the mean of their log-probabilities, that of
        the end token included.
    """
    images = torch.arange(len(start), device=start.device)[:, None]
    last = start[:, None]
    tokens = last[..., :0]
    total = torch.zeros(last.shape[:2], device=start.device)
    length = torch.zeros_like(total)
    ended = torch.zeros_like(total, dtype=torch.bool)
    generator = torch.Generator().manual_seed(decoding.seed)
    for step in range(decoding.max_length + 1):
        log_probs = words.logits(last).log_softmax(dim=-1)
        allowed = writable & (step < decoding.max_length)
        allowed[end] = step >= decoding.min_length
        log_probs = log_probs.masked_fill(~allowed, NEVER)
        # What has ended stays as it is.
        log_probs[ended] = NEVER
        log_probs[..., end].masked_fill_(ended, 0.0)
        length = length + ~ended
        totals = total[..., None] + log_probs
        if decoding.top_p is None:
            ranks = (totals / length[..., None] ** decoding.length_penalty).flatten(1)
            best = ranks.topk(min(decoding.beam_size, ranks.shape[1]), dim=1).indices
        else:
            best = _sampled(log_probs[:, 0], decoding, generator)
        text, token = best // len(writable), best % len(writable)
        total, length = totals.flatten(1).gather(1, best), length.gather(1, text)
        tokens = torch.cat((tokens[images, text], token[..., None]), dim=2)
        ended = (token == end) | total.isneginf()
        if ended.all():
            break
        words.select((images * last.shape[1] + text).flatten())
        last = token[..., None]
    found = tokens[:, 0].tolist()  # the best one is the first
    scores = (total / length)[:, 0].tolist()
    return [(row[: row.index(end)], score) for row, score in zip(found, scores)]


def _sampled(
    log_probs: torch.Tensor, decoding: Decoding, generator: torch.Generator
) -> torch.Tensor:
    """A token (B, 1) from the nucleus of each of (B, V).

    All images take the same draw, so that none depends on the others of its batch.
    """
    assert decoding.top_p is not None
    probs, order = (log_probs / decoding.temperature).softmax(dim=1).sort(descending=True)
    nucleus = probs.masked_fill(probs.cumsum(dim=1) - probs >= decoding.top_p, 0.0)
    upto = nucleus.cumsum(dim=1)
    draw = torch.rand((), generator=generator).to(upto) * upto[:, -1:]
    # Rounding must not lead beyond the nucleus.
    place = torch.minimum((upto <= draw).sum(dim=1), (nucleus > 0).sum(dim=1) - 1)
    return order.gather(1, place[:, None])
