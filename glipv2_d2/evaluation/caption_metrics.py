"""BLEU, ROUGE-L and CIDEr-D of captions by the formulas of COCO's evaluation.

The numbers are those of pycocoevalcap 1.2, with its constants and its peculiarities, which are
named where they are. Captions are lists of words (`tokenize_caption`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Words", "bleu", "cider_d", "rouge_l"]

Words = Sequence[str]
NGram = tuple[str, ...]

LONGEST = 4  # n-grams of 1 to 4 words
_SMALL, _TINY = 1e-9, 1e-15  # so that nothing is divided by zero, and no match gives no score
_BETA = 1.2  # of ROUGE-L: the weight of recall
_SIGMA = 6.0  # of CIDEr-D, in words


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """Compute BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002), 0 to 1.

    The brevity penalty compares with the reference of the nearest length, the shorter of two.

    Args:
        candidates: one caption for each image.
        references: for each image one or more.
    """
    matches, guesses = np.zeros(LONGEST), np.zeros(LONGEST)
    length = reference_length = 0
    for candidate, known in zip(candidates, references, strict=True):
        most: Counter[NGram] = Counter()
        for reference in known:
            most |= _ngrams(reference)
        for ngram, count in (_ngrams(candidate) & most).items():
            matches[len(ngram) - 1] += count
        guesses += [max(0, len(candidate) - n) for n in range(LONGEST)]
        length += len(candidate)
        lengths = (len(reference) for reference in known)
        reference_length += min((abs(n - len(candidate)), n) for n in lengths)[1]
    precisions = np.cumprod((matches + _TINY) / (guesses + _SMALL))
    ratio = (length + _TINY) / (reference_length + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return [float(p ** (1 / n)) * penalty for n, p in enumerate(precisions, start=1)]


def rouge_l(candidate: Words, references: Sequence[Words]) -> float:
    """Compute ROUGE-L of one caption (Lin 2004), 0 to 1.

    Precision and recall of the longest common subsequence are each the best over the references.
    """
    common = [_longest_common(candidate, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(n / len(reference) for n, reference in zip(common, references) if n)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Compute CIDEr-D of each caption (Vedantam et al. 2015), 0 to 10.

    How rare an n-gram is, is counted in the references: the number of images with it. So the score
    of a caption depends on the others of the test set, and one image alone has 0.

    Args:
        candidates: one caption for each image.
        references: for each image one or more.

    Returns:
        (images,) float64.
    """
    counts = [[_ngrams(reference) for reference in known] for known in references]
    images = Counter(ngram for known in counts for ngram in set().union(*known))
    weights = {ngram: math.log(len(counts)) - math.log(n) for ngram, n in images.items()}
    unknown = math.log(max(len(counts), 1))  # the weight of an n-gram that no reference has
    scores = []
    for candidate, known in zip(candidates, counts, strict=True):
        mine = _weighted(_ngrams(candidate), weights, unknown)
        similar = [_similarity(mine, _weighted(reference, weights, unknown)) for reference in known]
        scores.append(10 * float(np.mean(similar)))
    return np.array(scores)


class _Weighted(NamedTuple):
    """The tf-idf weights of a caption's n-grams, their norm for each n, the number of words."""

    values: dict[NGram, float]
    norms: np.ndarray
    length: int


def _weighted(counts: Counter[NGram], weights: dict[NGram, float], unknown: float) -> _Weighted:
    values = {ngram: count * weights.get(ngram, unknown) for ngram, count in counts.items()}
    squares = np.zeros(LONGEST)
    for ngram, value in values.items():
        squares[len(ngram) - 1] += value**2
    length = sum(count for ngram, count in counts.items() if len(ngram) == 1)
    return _Weighted(values, np.sqrt(squares), length)


def _similarity(candidate: _Weighted, reference: _Weighted) -> float:
    """The mean over n of the cosine, in which the candidate's weights are clipped."""
    products = np.zeros(LONGEST)
    for ngram, value in candidate.values.items():
        other = reference.values.get(ngram, 0.0)
        products[len(ngram) - 1] += min(value, other) * other
    norms = candidate.norms * reference.norms
    cosines = np.divide(products, norms, out=np.zeros(LONGEST), where=norms > 0)
    longer = candidate.length - reference.length
    return float(cosines.mean()) * math.exp(-(longer**2) / (2 * _SIGMA**2))


def _ngrams(words: Words) -> Counter[NGram]:
    return Counter(
        tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1)
    )


def _longest_common(first: Words, second: Words) -> int:
    """The length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)  # for the words of `first` so far, and each start of `second`
    for word in first:
        diagonal = 0
        for index, other in enumerate(second, start=1):
            longest = diagonal + 1 if word == other else max(lengths[index - 1], lengths[index])
            diagonal, lengths[index] = lengths[index], longest
    return lengths[-1]
