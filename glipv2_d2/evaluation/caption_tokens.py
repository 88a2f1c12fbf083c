"""The words of captions as COCO's evaluation counts them: Penn Treebank tokens, no punctuation."""

from __future__ import annotations

import re

__all__ = ["tokenize_caption"]

_TYPOGRAPHIC = str.maketrans(
    {"‘": "`", "’": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "...",
     "(": " -lrb- ", ")": " -rrb- ", "[": " -lsb- ", "]": " -rsb- ", "{": " -lcb- ", "}": " -rcb- "}
)  # fmt: skip
# Their period belongs to them, wherever they stand.
_ABBREVIATIONS = (
    "mr mrs ms dr st jr sr ave blvd rd sq ft mt bldg dept ltd inc co corp etc vs gen gov prof "
    "rev hon sgt capt lt col rep sen jan feb mar apr jun jul aug sep sept oct nov dec "
    "mon tue tues wed thu thurs fri sat sun"
).replace(" ", "|")
_TOKEN = re.compile(
    rf"""
    -[lr][rsc]b-                        # a bracket
    | [?!]+                             # "?!" is a word that stays
    | '(?:s|m|d|re|ve|ll|em|cause|n'|\d\ds)(?!\w)    # man 's, 'em, rock 'n' roll, '90s
    | (?:[a-z]\.)+(?!\w)                # p.m., u.s., a single initial
    | (?:{_ABBREVIATIONS})\.(?!\w)
    | no\.(?=\s*\d)                     # no. 5
    | \d+(?:[.,:/]\d+)*\w*(?:[-/.']\w*[^\W\d]\w*)*    # 1,000 3:30 1/2 5pm 2-story 1990's
    | \#?[^\W\d_]\w*(?:[-/.&']\w+)*     # red-and-white, and/or, o'clock, don't
    | @?\w+
    | \S
    """,
    re.VERBOSE,
)
_ENDING = re.compile(r"(.+?)(n't|'(?:s|m|d|re|ve|ll))")
_JOINED = {"cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "gimme": 3, "lemme": 3}
# The list of pycocoevalcap. It has the brackets in capitals, which lower-cased text never has:
# "-lrb-" and its kind stay there, and so they do here.
_PUNCTUATION = frozenset("\"'`.,:;-?!")


def tokenize_caption(caption: str) -> list[str]:
    """Split a caption into lower-case words without punctuation.

    An approximation of what COCO's evaluation does: Stanford's `PTBTokenizer` (Java, Penn
    Treebank rules), then the removal of punctuation. "A man's dog isn't here." gives `a man 's dog
    is n't here`.
    """
    tokens = _TOKEN.findall(caption.lower().translate(_TYPOGRAPHIC))
    return [part for token in tokens if token not in _PUNCTUATION for part in _parts(token)]


def _parts(token: str) -> list[str]:
    """Words that are written together: "don't" is "do" and "n't"."""
    if token in _JOINED:
        return [token[: _JOINED[token]], token[_JOINED[token] :]]
    found = _ENDING.fullmatch(token)
    return [token] if found is None else [*_parts(found.group(1)), found.group(2)]
