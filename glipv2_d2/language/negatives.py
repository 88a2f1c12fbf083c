"""What an image is asked for in training besides what it shows: other names, other captions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.data import MetadataCatalog

from ..errors import PromptError, PromptTooLongError, UsageError
from .class_names import written_alike
from .prompt import SEPARATOR, Prompt, clean_name
from .spans import Span
from .tokenized import Tokenizer

DROPPED_POSITIVES = "boxes dropped because the positive names overflow the prompt"


class SampledPrompt(NamedTuple):
    """A prompt, and the positive class ids that did not fit into it (mostly none)."""

    prompt: Prompt
    dropped: tuple[int, ...]


class NothingToAsk(PromptError):
    """No class of the vocabulary can be asked of an image, which is no fault of its record: with
    one class, an image with crowd boxes only."""

    fault = False


class DetectionPromptSampler:
    """Samples the class names that a training image is asked for.

    The rule of GLIP: all positive names, and random negative ones. With P positives,
    `most = min(max_classes - P, names that may be negatives)`, at least 1 where P = 0:

    - with probability `full_prompt_prob` the prompt gets `most` negatives;
    - else a number that is uniform over 1, ..., `most`.

    Differences from the official code, which draws its negatives from all names and then throws
    the positives among them out (so the number is only an upper bound): here they are drawn from
    the negatives. The result is shuffled and fits the token limit: negatives go first; where the
    positives alone overflow, a random subset of them is kept, another one at each call, and the
    rest is returned as dropped. Positives are never cut to `max_classes`.

    Classes that are written alike (`"screw (ok)"` and `"screw_(broken)"`, `"Bolt"` and
    `"bolt"`) are one phrase to the model: they share their words in the caption, none is a
    negative where another is positive or excluded, and in federated data only where all of them
    are verified to be absent.

    All randomness comes from Python's global generator, which Detectron2 seeds in each worker.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        tokenizer: Tokenizer,
        max_classes: int = 85,
        full_prompt_prob: float = 0.5,
        shuffle: bool = True,
        separator: str = SEPARATOR,
    ):
        """
        Args:
            class_names: the vocabulary; the class id is the position.
            tokenizer: of the model that is trained.
            max_classes: names in a full prompt.
            full_prompt_prob: see above.
            shuffle: random order; else the order of the class ids.
            separator: what stands between two names.

        Raises:
            PromptTooLongError: one name alone does not fit the token limit.
            PromptError: no names, or a name that is empty once cleaned.
            UsageError: an option outside its range.
        """
        if not 0 <= full_prompt_prob <= 1:
            raise UsageError(f"full_prompt_prob must lie in [0, 1], got {full_prompt_prob}")
        if max_classes < 1:
            raise UsageError(f"max_classes must be at least 1, got {max_classes}")
        if not len(class_names):
            raise PromptError("the vocabulary is empty: give at least one class name")
        self.class_names = tuple(clean_name(name) for name in class_names)
        self._alike = written_alike(self.class_names)
        self.tokenizer = tokenizer
        self.max_classes = max_classes
        self.full_prompt_prob = full_prompt_prob
        self.shuffle = shuffle
        self.separator = separator
        self._limit = tokenizer.max_tokens - tokenizer.num_special_tokens
        self._gap = tokenizer.name_tokens(separator)
        self._counts = [tokenizer.name_tokens(name) for name in self.class_names]
        for name, count in zip(self.class_names, self._counts):
            if count > self._limit:
                raise PromptTooLongError(
                    f"the class name {name[:60]!r} has {count} tokens, the limit for a prompt is "
                    f"{self._limit} without the special ones: shorten the name"
                )

    def __call__(
        self,
        positive_ids: Iterable[int],
        negative_ids: Iterable[int] | None = None,
        excluded_ids: Iterable[int] = (),
    ) -> SampledPrompt:
        """Sample the prompt of one image.

        Args:
            positive_ids: the classes that the image has.
            negative_ids: for federated data the classes verified to be absent, the only ones that
                may be negatives; None: all others may.
            excluded_ids: classes that must not be asked for, for instance those with crowd
                boxes only.

        Raises:
            PromptError: an unknown id.
            NothingToAsk: neither positives nor possible negatives.
        """
        positives = self._known(positive_ids)
        every = range(len(self.class_names)) if negative_ids is None else self._known(negative_ids)
        taken = {j for i in self._known([*positives, *excluded_ids]) for j in self._alike[i]}
        # One class for all that are written like it, and only where it may stand for all of them.
        absent = set(every) - taken
        pool = [i for i in every if i == self._alike[i][0] and absent.issuperset(self._alike[i])]
        if not positives and not pool:
            raise NothingToAsk(
                "nothing to ask for: the image has no positive class and no class that is known "
                "to be absent (what is in a crowd box is not)"
            )
        kept, dropped = self._fit_positives(positives)
        negatives = self._draw_negatives(kept, pool)
        return self._assemble(kept, negatives, dropped)

    def _known(self, ids: Iterable[int]) -> list[int]:
        result = sorted({int(i) for i in ids})
        for i in result:
            if not 0 <= i < len(self.class_names):
                raise PromptError(
                    f"class id {i} is unknown: the vocabulary has {len(self.class_names)} names"
                )
        return result

    def _tokens(self, ids: Sequence[int]) -> int:
        written = {self._alike[i][0] for i in ids}
        return sum(self._counts[i] for i in written) + self._gap * max(len(written) - 1, 0)

    def _fit_positives(self, positives: list[int]) -> tuple[list[int], list[int]]:
        if self._tokens(positives) <= self._limit:
            return positives, []
        kept: list[int] = []
        dropped: list[int] = []
        for i in random.sample(positives, len(positives)):
            fits = self._tokens([*kept, i]) <= self._limit
            (kept if fits else dropped).append(i)
        return kept, dropped

    def _draw_negatives(self, kept: list[int], pool: list[int]) -> list[int]:
        most = max(self.max_classes - len(kept), 0 if kept else 1)
        most = min(most, len(pool))
        if most == 0:
            return []
        full = random.random() < self.full_prompt_prob
        count = most if full else random.randint(1, most)
        negatives: list[int] = []
        used = self._tokens(kept)
        for i in random.sample(pool, count):
            used += self._counts[i] + (self._gap if kept or negatives else 0)
            if used > self._limit:
                break  # going on with shorter names would prefer short negatives
            negatives.append(i)
        return negatives

    def _assemble(self, kept: list[int], negatives: list[int], dropped: list[int]) -> SampledPrompt:
        while True:
            ids = kept + negatives
            ids = random.sample(ids, len(ids)) if self.shuffle else sorted(ids)
            names = [self.class_names[i] for i in ids]
            prompt = Prompt.from_classes(names, ids, self.separator, share_spans=True)
            # The sum of counts is exact for BERT; other tokenizers may need a second round.
            if self.tokenizer.num_tokens(prompt.caption) <= self.tokenizer.max_tokens:
                return SampledPrompt(prompt, tuple(sorted(dropped)))
            if negatives:
                negatives = negatives[:-1]
            else:
                kept, dropped = kept[:-1], [*dropped, kept[-1]]


def surround_with_captions(
    caption: str,
    file_name: str,
    pool: Sequence[tuple[str, str]],
    count: int,
    tokenizer: Tokenizer,
) -> tuple[str, Span]:
    """Put captions of other images before and behind a caption, in random order.

    Args:
        caption: of the image; kept word for word.
        file_name: of the image; its captions are no negatives.
        pool: (file name, caption) pairs to draw from.
        count: so many negatives, fewer where they do not fit the token limit.
        tokenizer: tells what fits.

    Returns:
        The whole caption, and the characters of it that are the image's own.
    """
    if not len(pool):
        return caption, (0, len(caption))
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
    before = "".join(map(_sentence, negatives[:position]))
    behind = " ".join(_sentence(text).rstrip() for text in negatives[position:])
    whole = before + (_sentence(caption) + behind if behind else caption)
    return whole, (len(before), len(before) + len(caption))


def _sentence(text: str) -> str:
    """The text with an end mark and a space behind it."""
    return text + (" " if text.rstrip().endswith((".", "!", "?")) else ". ")


def absent_class_ids(record: Mapping[str, Any], dataset_name: str) -> list[int] | None:
    """The classes that a federated record verifies to be absent; None for other records.

    Detectron2's LVIS loader leaves `neg_category_ids` as they are in the file, while it makes
    the `category_id` of annotations contiguous; here they become contiguous too.
    """
    ids = record.get("neg_category_ids")
    if ids is None:
        return None
    metadata = MetadataCatalog.get(dataset_name)
    mapping = metadata.get("thing_dataset_id_to_contiguous_id")
    if mapping is not None:
        return [mapping[i] for i in ids if i in mapping]
    if metadata.get("evaluator_type") == "lvis":
        return [i - 1 for i in ids]
    return list(ids)
