"""What a class may be asked by: a name, several words that mean it, or an exemplar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PromptError

__all__ = ["NEGATIVE", "ClassNames", "Exemplar", "words_of_classes"]

NEGATIVE = -1  # the class id of words that are asked as distractors only
ClassNames = Sequence[str | Sequence[str]]


@dataclass(frozen=True)
class Exemplar:
    """A word that was seen and not read, see `GroundingPredictor.exemplar`.

    Attributes:
        name: for people; its tokens are those that the vector takes the place of.
        vector: as the language backbone gives a word, L numbers.
        text_weight: how much of the words of `name` is left; 0: none.
        region: what was seen, of unit length in the contrast's common space; (): the vector alone
            counts.
        words: names that the model knows, which the region is told from.
    """

    name: str
    vector: tuple[float, ...]
    text_weight: float = 0.0
    region: tuple[float, ...] = ()
    words: tuple[str, ...] = ()


def words_of_classes(
    names: ClassNames, class_ids: Sequence[int] | None = None
) -> tuple[list[str], list[int]]:
    """The words of a vocabulary, and of each the id of its class.

    Args:
        names: of each class its name, or several words that mean it, `[["cat", "kitten"], "dog"]`.
        class_ids: of each class; 0, 1, 2, ... by default.

    Raises:
        PromptError: a class without words, or with what is no string among them, or not one id
            per class.
    """
    ids = range(len(names)) if class_ids is None else class_ids
    if len(ids) != len(names):
        raise PromptError(f"{len(names)} class names but {len(ids)} class ids")
    words: list[str] = []
    of_words: list[int] = []
    for class_id, entry in zip(ids, names):
        if isinstance(entry, str) or not isinstance(entry, Sequence):
            words.append(entry)
            of_words.append(class_id)
            continue
        if not len(entry) or not all(isinstance(word, str) for word in entry):
            raise PromptError(
                "a class is its name, or a list of words that mean it, as in "
                f'[["cat", "kitten"], "dog"], got {entry!r:.80}'
            )
        words += entry
        of_words += [class_id] * len(entry)
    return words, of_words
