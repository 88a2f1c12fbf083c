"""Which phrases of a caption to look for: noun-phrase extractors with a registry.

Whether a text is a caption at all is `glipv2_d2.language.prompt_text`'s business.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
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
        backend: `"rules"` (word lists, needs nothing), `"textblob"` (needs the extra `labels`),
            `"nltk"`, `"spacy"`, or one registered by the user. `"nltk"` and `"spacy"` raise
            MissingPackageError where the library or its data is not installed.

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


def caption_phrases(caption: str, extractor: Extractor) -> list[Span]:
    """The phrases of a web caption that may name something in the image, 20 at most.

    Left out are addresses, names of files and hashtags, phrases of nothing but stop words, numbers
    and words of the web ("stock photo", "best price", "Monday"), as OWLv2 (Appendix A.2) leaves
    out generic words, and those after the 20th, as VESL (of CLOC) does.
    """
    # A comma: what stands before and after it is no one phrase.
    words_only = _NO_WORDS.sub(lambda match: ",".ljust(len(match.group())), caption)
    spans = [_without_place(caption, *span) for span in extractor(words_only)]
    return [span for span in spans if not _says_nothing(caption[slice(*span)])][:MOST_PHRASES]


def _without_place(caption: str, start: int, end: int) -> Span:
    """The span of "star" for "star left", which taggers take for one, before "of the ring"."""
    words = caption[start:end].rsplit(maxsplit=1)
    if len(words) == 2 and words[1].lower() in lists.PLACES and _OF.match(caption, end):
        return start, start + len(words[0])
    return start, end


def _says_nothing(phrase: str) -> bool:
    words = [match.group().lower().removesuffix("'s") for match in WORD.finditer(phrase)]
    return all(word in lists.GENERIC or _is_number(word) for word in words)


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


MOST_PHRASES = 20  # of a caption that is labeled
_NO_WORDS = re.compile(
    r"https?://\S+|www\.\S+|[#@]\w+|\S+@\S+|\S+\.(?:com|org|net|html?|jpe?g|png|gif|webp)\b",
    re.IGNORECASE,
)
_OF = re.compile(r"\s+of\b", re.IGNORECASE)
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
def textblob(caption: str) -> list[Span]:
    """GLIP's grammar on the part-of-speech tags of TextBlob, whose dictionary comes with it."""
    from textblob.en import lexicon, parser

    tokens = list(WORD.finditer(caption))
    tagged = parser.find_tags([token.group().lower() for token in tokens])
    # The parser leaves these rules out: with them "a green cross" has no verb.
    tagged = lexicon.context.apply([list(pair) for pair in tagged])
    return _chunks(caption, [token.span() for token in tokens], [tag for _, tag in tagged])


@NOUN_PHRASE_EXTRACTORS.register()
def nltk(caption: str) -> list[Span]:
    """GLIP's grammar on NLTK's tokens and part-of-speech tags, as the official GLIP finds phrases.

    Of `find_noun_phrases` and `remove_punctuation` in its `engine/predictor_glip.py` it differs in
    what is kept: places in the caption instead of texts, no determiner, and no phrase that goes
    on behind a "|" or a dash.
    """
    split, tag = _nltk_tools()
    # GLIP writes the caption in small letters first; the places of some would move ("İ").
    small = "".join(c.lower() if len(c.lower()) == 1 else c for c in caption)
    ranges = split(small)
    tags = [name for _, name in tag([small[start:end] for start, end in ranges])]
    chunks = _chunks(caption, ranges, tags)
    return [_without_punctuation(caption, span) for span in chunks]


def _chunks(caption: str, ranges: Sequence[Span], tags: Sequence[str]) -> list[Span]:
    """The phrases of GLIP's grammar `<DT>?<JJ.*>*<NN.*>+`, without the determiner.

    Args:
        ranges: of each token the characters.
        tags: of each token the part of speech, of the Penn Treebank's.
    """
    letters = ""
    for (start, end), tag in zip(ranges, tags):
        # Both taggers take "|" and the like for nouns.
        is_word = any(map(str.isalnum, caption[start:end]))
        letters += tag[0] if is_word and tag[:2] in ("JJ", "NN") else " "
    found = re.finditer("J*N+", letters)
    return [(ranges[match.start()][0], ranges[match.end() - 1][1]) for match in found]


def _without_punctuation(caption: str, span: Span) -> Span:
    """The span without the stop or the quotes that NLTK leaves at a word."""
    words = [match.span() for match in re.finditer(r"\w+", caption[span[0] : span[1]])]
    return span[0] + words[0][0], span[0] + words[-1][1]


@lru_cache(maxsize=1)
def _nltk_tools() -> tuple[Callable[[str], list[Span]], Callable]:
    """(caption -> the characters of each token, tokens -> (token, tag)), loaded once."""
    try:
        from nltk.tag import PerceptronTagger
        from nltk.tokenize import NLTKWordTokenizer, PunktTokenizer
    except ImportError as error:
        raise MissingPackageError(
            "the noun-phrase extractor 'nltk' needs NLTK: pip install nltk, or use 'rules'"
        ) from error
    try:
        sentences, tagger = PunktTokenizer(), PerceptronTagger()
    except LookupError as error:
        raise MissingPackageError(
            "NLTK lacks its data: python -m nltk.downloader punkt_tab "
            "averaged_perceptron_tagger_eng, or use 'rules' or 'textblob', which need none"
        ) from error
    words = NLTKWordTokenizer()

    def split(caption: str) -> list[Span]:
        return [
            (start + first, start + last)
            for start, end in sentences.span_tokenize(caption)
            for first, last in words.span_tokenize(caption[start:end])
        ]

    return split, tagger.tag


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
