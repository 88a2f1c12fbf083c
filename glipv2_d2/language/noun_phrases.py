"""Which phrases of a caption to look for: noun-phrase extractors with a registry.

Whether a text is a caption at all is `glipv2_d2.language.prompt_text`'s business.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache

from fvcore.common.registry import Registry

from ..errors import MissingPackageError, UsageError
from . import word_lists as lists
from .spans import Span

Extractor = Callable[[str], list[Span]]

NOUN_PHRASE_EXTRACTORS = Registry("NOUN_PHRASE_EXTRACTORS")
NOUN_PHRASE_EXTRACTORS.__doc__ = """
Noun-phrase extractors: functions from an English caption to the `[start, end)` character spans of
its phrases, in the caption's order and without leading articles; none where it has no phrase.
"""


def noun_phrase_extractor(backend: str) -> Extractor:
    """The registered extractor of this name.

    Args:
        backend: `"rules"` (word lists, needs nothing), `"nltk"`, `"spacy"`, or one registered by
            the user. The latter two raise MissingPackageError where the library or its data is
            not installed.

    Raises:
        UsageError: there is none of this name.
    """
    if backend not in NOUN_PHRASE_EXTRACTORS:
        known = sorted(name for name, _ in NOUN_PHRASE_EXTRACTORS)
        raise UsageError(f"unknown noun-phrase extractor {backend!r}, known: {known}")
    return NOUN_PHRASE_EXTRACTORS.get(backend)


def question_phrases(question: str, extractor: Extractor) -> list[Span]:
    """The phrases of a question that name something in the image.

    What follows "what" or "which" names what is asked for: the answer stands for it, and a detector
    that looks for "color" or "sport" finds anything.
    """
    return [span for span in extractor(question) if not _ASKED_FOR.search(question[: span[0]])]


def register_noun_phrase_extractor(name: str) -> Callable[[Extractor], Extractor]:
    """Decorator of 0.1; `NOUN_PHRASE_EXTRACTORS.register()` takes the function's name instead."""
    warnings.warn(
        "register_noun_phrase_extractor goes with 0.3: call the function as the extractor and "
        "decorate it with @NOUN_PHRASE_EXTRACTORS.register()",
        FutureWarning,
        stacklevel=2,
    )

    def register(extractor: Extractor) -> Extractor:
        extractor.__name__ = name
        NOUN_PHRASE_EXTRACTORS.register(extractor)
        return extractor

    return register


# Before the noun that a question asks for: "what [color]", "which [room]", "what kind of [animal]".
_ASKED_FOR = re.compile(r"\b(?:what|which)\s+(?:(?:kind|type|sort)s?\s+of\s+)?$", re.IGNORECASE)
_ADVERB = re.compile(r"\w{3,}ly$")
# Stops that end nothing belong to their word: "Mr.", "U.S.", "3.5".
WORD = re.compile(
    r"(?:mr|mrs|ms|dr|st|mt)\.(?=\s)|(?:[^\W\d_]\.){2,}|\d+(?:[.,]\d+)+"
    r"|\w+(?:['’\-]\w+)*|[^\w\s]",
    re.IGNORECASE,
)


@NOUN_PHRASE_EXTRACTORS.register()
def rules(caption: str) -> list[Span]:
    """Runs of words between function words, verbs and punctuation.

    It knows no grammar, only word lists: "the small red star left of the blue ring" gives "small
    red star" and "blue ring".
    """
    tokens = [(m.group(), m.start(), m.end()) for m in WORD.finditer(caption)]
    words = [text.lower() for text, _, _ in tokens]
    chunks: list[list[int]] = [[]]
    for index, word in enumerate(words):
        joins = word == "of" and chunks[-1] and words[index - 1] in lists.COLLECTIVES
        if joins or not ends_phrase(words, index):
            chunks[-1].append(index)
        else:
            chunks.append([])
    spans = []
    for chunk in chunks:
        chunk = _trim(chunk, words)
        if chunk:
            spans.append((tokens[chunk[0]][1], tokens[chunk[-1]][2]))
    return spans


def ends_phrase(words: list[str], index: int) -> bool:
    """Whether the word at `index` is punctuation, a determiner, preposition, verb or adverb."""
    word = words[index]
    if not (word[0].isalnum() or word[0] == "_"):
        return True
    following = words[index + 1] if index + 1 < len(words) else ""
    if _is_noun_here(word, words[index - 1] if index else "", following):
        return False
    if word in lists.DETERMINERS or word in lists.BREAKS:
        return True
    if word in lists.ING_MODIFIERS:
        return following not in lists.ING_MODIFIERS[word]
    if word.endswith("ing") and len(word) > 4:
        return word not in lists.ING_NOUNS
    return bool(_ADVERB.match(word)) and word not in lists.LY_NOUNS


def _is_noun_here(word: str, before: str, following: str) -> bool:
    """Whether a word that looks like a verb is none: "the saw", "a parked car", "a running man",
    and "a trash can" but not "can ride"."""
    if word == "can":
        return following not in lists.VERBS and following not in lists.FUNCTION_WORDS
    looks_like_verb = word in lists.VERBS or (word.endswith("ing") and len(word) > 4)
    return before in lists.ARTICLES and looks_like_verb


def _trim(chunk: list[int], words: list[str]) -> list[int]:
    """Cut off words of place ("star left" of the ring, on the "left") and of quantity, and a
    joining "of" that nothing follows."""
    while chunk:
        word = words[chunk[-1]]
        following = words[chunk[-1] + 1] if chunk[-1] + 1 < len(words) else ""
        # "the street corner" is a thing, "the corner of the street" is a place in one.
        place = word in lists.PLACES and (
            len(chunk) == 1 or following == "of" or word in ("left", "right")
        )
        quantity = word in lists.QUANTITIES and following == "of"
        if not (place or quantity or word == "of"):
            break
        chunk = chunk[:-1]
    return [] if all(_is_number(words[i]) for i in chunk) else chunk


def _is_number(word: str) -> bool:
    return word in lists.NUMBERS or not any(map(str.isalpha, word))


@NOUN_PHRASE_EXTRACTORS.register()
def nltk(caption: str) -> list[Span]:
    """Determiner, adjectives and nouns by NLTK's part-of-speech tags, as the official GLIP does."""
    try:
        import nltk
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise MissingPackageError(
            "the noun-phrase extractor 'nltk' needs NLTK: pip install nltk, or use 'rules'"
        ) from error
    ranges = list(NLTKWordTokenizer().span_tokenize(caption))
    try:
        tagged = nltk.pos_tag([caption[start:end] for start, end in ranges])
    except LookupError as error:
        raise MissingPackageError(
            "NLTK lacks its tagger: python -m nltk.downloader averaged_perceptron_tagger_eng"
        ) from error
    spans: list[Span] = []
    run: list[int] = []
    # A sentinel closes the last run; a run counts if it ends with a noun.
    for index, (_, tag) in enumerate([*tagged, ("", "END")]):
        if tag.startswith("NN") or (tag.startswith("JJ") and not _has_noun(run, tagged)):
            run.append(index)
            continue
        if _has_noun(run, tagged):
            spans.append((ranges[run[0]][0], ranges[run[-1]][1]))
        run = []
    return spans


def _has_noun(run: list[int], tagged: list[tuple[str, str]]) -> bool:
    return any(tagged[i][1].startswith("NN") for i in run)


@NOUN_PHRASE_EXTRACTORS.register()
def spacy(caption: str) -> list[Span]:
    """spaCy's noun chunks (model `en_core_web_sm`) without leading articles and pronouns."""
    spans = []
    for chunk in _spacy_model()(caption).noun_chunks:
        tokens = list(chunk)
        while tokens and tokens[0].pos_ in ("DET", "PRON"):
            tokens.pop(0)
        if tokens:
            spans.append((tokens[0].idx, tokens[-1].idx + len(tokens[-1].text)))
    return spans


@lru_cache(maxsize=1)
def _spacy_model() -> Callable:
    try:
        import spacy

        return spacy.load("en_core_web_sm")
    except ImportError as error:
        raise MissingPackageError(
            "the noun-phrase extractor 'spacy' needs spaCy: pip install spacy, or use 'rules'"
        ) from error
    except OSError as error:
        raise MissingPackageError(
            "spaCy lacks its English model: python -m spacy download en_core_web_sm"
        ) from error
