"""What the model is asked to find: a caption and the character spans of its phrases."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..errors import PromptError, printable
from .spans import Span, phrase_text, span_problem
from .words import ClassNames, Exemplar, words_of_classes

# Kinds of prompts with a task of their own, and the head of `GLIPv2` that learns it.
TASKS = {"question": "vqa_head", "caption": "caption_head"}
KINDS = ("detection", "grounding", *TASKS)
SEPARATOR = ". "
MASK = "[MASK]"

_PARENTHESES = re.compile(r"\([^()]*\)")
_SPACES = re.compile(r"\s+")
_DIRECTION = re.compile(r"\b(left|right)(most|hand|ward|wards)?\b", re.IGNORECASE)


def clean_name(name: str) -> str:
    """The name of a class as it is written into a caption.

    As in GLIP: what stands in parentheses is dropped and `_` becomes a space
    (LVIS: `"bow_(weapon)"` -> `"bow"`); repeated white space is one space.

    Raises:
        PromptError: nothing is left of the name; it has square brackets, which mark the phrases of
            a caption; or it is no text in UTF-8.
    """
    cleaned = str(name)
    _require_utf8(cleaned, "class name")
    if "[" in cleaned or "]" in cleaned:
        raise PromptError(
            f"the class name {name!r} has square brackets, which mark the phrases of a caption: "
            "name the class without them, or give the caption as one string"
        )
    while _PARENTHESES.search(cleaned):  # the innermost pair first, so nested ones go too
        cleaned = _PARENTHESES.sub(" ", cleaned)
    cleaned = _SPACES.sub(" ", cleaned.replace("_", " ")).strip()
    if not cleaned:
        raise PromptError(f"the class name {name!r} is empty once '(...)' and '_' are removed")
    return cleaned


def _require_utf8(text: str, what: str) -> None:
    """Half characters, as of a file name in another encoding, are refused by the tokenizers."""
    if not text.isascii() and printable(text) != text:
        raise PromptError(f"the {what} {shorten(text)!r} is no text in UTF-8")


def names_direction(caption: str) -> bool:
    """Whether a caption says left or right, and is therefore not true of the mirrored image."""
    return _DIRECTION.search(caption) is not None


def answer_span(question: str) -> Span | None:
    """The characters of the `MASK` that ends a question, as a word of its own.

    It stands for the answer (Appendix D.2), and the tokenizer's mask token is read for it. None:
    the question has none; one that stands elsewhere is text.
    """
    if not f" {question}".endswith(f" {MASK}"):
        return None
    return len(question) - len(MASK), len(question)


def _as_tuples(spans: Iterable[Iterable[Sequence[int]]]) -> tuple[tuple[Span, ...], ...]:
    try:
        return tuple(tuple((start, end) for start, end in phrase) for phrase in spans)
    except (TypeError, ValueError):
        raise PromptError(
            "spans are, for each phrase, a list of pairs [start, end), as [[(0, 3), (8, 11)], "
            f"[(4, 7)]] for two phrases, got {spans!r:.80}"
        ) from None


def shorten(text: str, limit: int = 80) -> str:
    """The beginning of a long text, for a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


@dataclass(frozen=True)
class Prompt:
    """A caption with its phrases; immutable, hashable and picklable.

    Attributes:
        caption: the text that the language backbone reads.
        kind: `"detection"` (a synthesized list of class names), `"grounding"` (a sentence),
            `"question"`, or `"caption"`: a text that is written word by word, so that no word sees
            a later one, and the image none (GLIPv2, Section 3.3).
        spans: for each of the K phrases its `[start, end)` character spans in the caption. A
            question or caption may have none; a caption without is to be continued.
        names: K strings for people.
        class_ids: K contiguous class ids, global to the vocabulary that the prompt is a part of;
            two phrases with one id are the same class. `NEGATIVE` (-1) is no class: what these
            phrases describe best is not detected, see `GroundingPostprocessor.merge`.
        own_span: the `[start, end)` characters of the caption that are about the image, where
            captions of other images stand around it (only these words are masked for masked
            language modeling); None: all of it.
        embedding_id: the tuned embedding that its words carry, see `PromptEmbeddings`; None: the
            words as the language backbone reads them.
        exemplars: K exemplars, or None for a phrase that is read; (): all are.

    Raises:
        PromptError: empty caption (but for a caption that is to be written), no phrases, a span
            that is empty, out of range, or begins or ends inside a word, fields of different
            lengths, or a question or caption with an `embedding_id`.
    """

    caption: str
    kind: str
    spans: tuple[tuple[Span, ...], ...]
    names: tuple[str, ...]
    class_ids: tuple[int, ...]
    own_span: Span | None = None
    embedding_id: str | None = None
    exemplars: tuple[Exemplar | None, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PromptError(f"prompt kind must be one of {KINDS}, got {self.kind!r}")
        text = self.caption if isinstance(self.caption, str) else ""
        nothing = not text.strip() or (self.kind == "question" and text.strip() == MASK)
        if nothing and (self.kind != "caption" or self.caption != ""):
            what = {"question": "a question", "caption": "a caption or an empty text"}
            needed = what.get(self.kind, "at least one class name or a caption with words")
            raise PromptError(f"the prompt is empty: give {needed}")
        _require_utf8(self.caption, "prompt")
        if not self.spans and self.kind not in TASKS:
            raise PromptError(
                f"the prompt {shorten(self.caption)!r} has no phrases: mark what to look for, "
                "for instance with brackets: 'a [red kite] above a [dog]'"
            )
        # Lists from json are welcome; the fields are tuples so that a prompt can be hashed.
        set_field = object.__setattr__
        set_field(self, "spans", _as_tuples(self.spans))
        set_field(self, "names", tuple(str(name) for name in self.names))
        set_field(self, "class_ids", tuple(int(i) for i in self.class_ids))
        set_field(self, "exemplars", tuple(self.exemplars))
        seen = self.exemplars or self.names
        if not len(self.spans) == len(self.names) == len(self.class_ids) == len(seen):
            raise PromptError(
                f"spans, names and class_ids must have one entry per phrase, and exemplars too or "
                f"none, got {len(self.spans)}, {len(self.names)}, {len(self.class_ids)} and "
                f"{len(self.exemplars)}"
            )
        for name, phrase in zip(self.names, self.spans):
            if not phrase:
                raise PromptError(f"phrase {name!r} has no span in {shorten(self.caption)!r}")
            for span in phrase:
                problem = span_problem(self.caption, span)
                if problem:
                    raise PromptError(
                        f"phrase {name!r} of the prompt {shorten(self.caption)!r}: {problem}"
                    )
        if self.own_span is not None:
            set_field(self, "own_span", _as_tuples([[self.own_span]])[0][0])
            problem = span_problem(self.caption, self.own_span)
            if problem:
                raise PromptError(f"own_span of the prompt {shorten(self.caption)!r}: {problem}")
        if self.embedding_id is not None and self.kind in TASKS:
            raise PromptError(
                f"the {self.kind} {shorten(self.caption)!r} carries the tuned embedding "
                f"{self.embedding_id!r}: these are for class names and phrases, so leave it out"
            )

    def __len__(self) -> int:
        """The number of phrases K."""
        return len(self.spans)

    def __bool__(self) -> bool:
        """True: a prompt without phrases is a prompt, too."""
        return True

    @property
    def causal(self) -> bool:
        """No word sees a later one."""
        return self.kind == "caption"

    @property
    def seen_by_image(self) -> bool:
        """The image attends to the text."""
        return self.kind != "caption"

    @property
    def is_unwritten(self) -> bool:
        """It is a caption that is to be written, or gone on with."""
        return self.kind == "caption" and not self.spans

    @property
    def answer_span(self) -> Span | None:
        """See the function `answer_span`; None for what is no question."""
        return answer_span(self.caption) if self.kind == "question" else None

    def left_open(self) -> Prompt:
        """A question with `MASK` at its end as the phrase of its answer; as it is where it has it.

        So it is asked of a head with `ground_answer`.
        """
        if self.answer_span is not None:
            return self
        caption = f"{self.caption} {MASK}"
        return replace(
            self,
            caption=caption,
            spans=(*self.spans, ((len(self.caption) + 1, len(caption)),)),
            names=(*self.names, MASK),
            class_ids=(*self.class_ids, 1 + max(self.class_ids, default=-1)),
        )

    def object_names(self) -> list[list[str]]:
        """For each phrase the names of an object that it means.

        A box that belongs to several phrases of a caption has a phrase with all their spans; such
        an object has each of their names ("the man ... a referee"). A name that was given to the
        phrase counts alone.
        """
        result = []
        for name, spans in zip(self.names, self.spans):
            texts = [self.caption[start:end] for start, end in spans]
            several = len(texts) > 1 and name == phrase_text(self.caption, spans)
            result.append([name, *texts] if several else [name])
        return result

    @classmethod
    def from_classes(
        cls,
        names: Sequence[str],
        class_ids: Sequence[int] | None = None,
        separator: str = SEPARATOR,
        share_spans: bool = False,
    ) -> Prompt:
        """A detection prompt `"person. cat. hot dog"`; no separator after the last name.

        Args:
            names: class names, cleaned by `clean_name`.
            class_ids: one id per name; 0, 1, 2, ... by default.
            separator: what stands between two names.
            share_spans: classes that are written alike, case apart, are written once and have
                their phrases on the same span, so that none is another's negative in training;
                else each is written, as in the official evaluation.
        """
        if isinstance(names, str):
            raise PromptError(f"from_classes takes a list of names, got the string {names!r}")
        cleaned = [clean_name(name) for name in names]
        if not cleaned:
            raise PromptError("the prompt is empty: the list of class names has no entries")
        written: dict[Hashable, tuple[str, Span]] = {}
        spans, position = [], 0
        for index, name in enumerate(cleaned):
            key = name.casefold() if share_spans else index
            if key not in written:
                written[key] = name, (position, position + len(name))
                position += len(name) + len(separator)
            spans.append((written[key][1],))
        caption = separator.join(name for name, _ in written.values())
        ids = range(len(cleaned)) if class_ids is None else class_ids
        return cls(caption, "detection", tuple(spans), tuple(cleaned), tuple(ids))

    @classmethod
    def from_caption(
        cls,
        caption: str,
        spans: Iterable[Iterable[Sequence[int]]],
        names: Sequence[str] | None = None,
        own_span: Span | None = None,
        kind: str = "grounding",
    ) -> Prompt:
        """A prompt of a sentence; the class ids of its phrases are 0, 1, 2, ...

        Args:
            caption: the sentence.
            spans: per phrase a list of `[start, end)` character spans.
            names: one name per phrase; the text of its spans by default.
            own_span: the part that is about the image; all of it by default.
            kind: see the class; a question may be given with `MASK` at its end.
        """
        phrases = _as_tuples(spans)
        if names is None:
            names = [phrase_text(caption, phrase) for phrase in phrases]
        ids = tuple(range(len(phrases)))
        return cls(caption, kind, phrases, tuple(names), ids, own_span)

    @classmethod
    def unwritten(cls, beginning: str = "") -> Prompt:
        """A caption that the model is to write, after a `beginning`."""
        return cls(beginning, "caption", (), (), ())

    @classmethod
    def parse(cls, text: str) -> Prompt:
        """A grounding prompt from a caption whose phrases stand in brackets.

        `"a [red kite] above a [dog]"` gives the caption without the brackets and two phrases.

        Raises:
            PromptError: no brackets, or brackets that are nested, unbalanced or empty.
        """
        caption, spans, opened = "", [], None
        for position, char in enumerate(text):
            if char == "[":
                if opened is not None:
                    raise PromptError(f"nested '[' at character {position} of {text!r}")
                opened = len(caption)
            elif char == "]":
                if opened is None:
                    raise PromptError(f"']' without '[' at character {position} of {text!r}")
                inside = caption[opened:]
                if not inside.strip():
                    raise PromptError(f"empty brackets before character {position} of {text!r}")
                start = opened + len(inside) - len(inside.lstrip())
                spans.append(((start, opened + len(inside.rstrip())),))
                opened = None
            else:
                caption += char
        if opened is not None:
            raise PromptError(f"'[' without ']' in {text!r}")
        return cls.from_caption(caption, spans)

    @classmethod
    def split(
        cls,
        names: ClassNames,
        size: int,
        class_ids: Sequence[int] | None = None,
        separator: str = SEPARATOR,
    ) -> list[Prompt]:
        """Detection prompts of at most `size` names that keep the vocabulary's class ids.

        It does not look at tokens: `PromptTokenizer.split` also keeps to the token limit.
        """
        if size < 1:
            raise PromptError(f"a prompt must hold at least one name, got size={size}")
        words, ids = words_of_classes(names, class_ids)
        return [
            cls.from_classes(words[i : i + size], ids[i : i + size], separator)
            for i in range(0, len(words), size)
        ]
