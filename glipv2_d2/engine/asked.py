"""What a user asks, in any of the forms that GroundingPredictor takes, as prompts of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from ..errors import ConfigError, PromptError, UsageError
from ..language.chunks import prompts_of_words
from ..language.class_names import bare_name
from ..language.prompt import TASKS, Prompt, shorten
from ..language.prompt_text import read_names, read_prompt, read_question
from ..language.words import NEGATIVE, Exemplar
from ..modeling import GLIP
from ..modeling.generation import Decoding
from ..modeling.heads import AnsweringHead, PresenceHead
from ..modeling.shortlist import Shortlist
from . import results

if TYPE_CHECKING:
    from .predictor import GroundingPredictor

__all__ = [
    "Negatives",
    "PromptLike",
    "Request",
    "check_fraction",
    "check_thresholds",
    "to_answer",
    "to_caption",
    "to_detect",
    "to_tell_presence",
]

Word = str | Exemplar
Negatives = str | Sequence[Word]
PromptLike = Word | Prompt | Sequence[Word | Sequence[Word]] | Sequence[Prompt]


class Request(NamedTuple):
    """What is asked of some images.

    Attributes:
        prompts: of each image.
        options: further fields of the model's inputs.
        read: what the user gets, of the model's output and its input.
    """

    prompts: list[list[Prompt]]
    options: dict[str, Any]
    read: Callable[[dict, dict], Any]


def to_detect(
    predictor: GroundingPredictor,
    prompts: PromptLike | Sequence[PromptLike],
    count: int,
    score_threshold: float | None,
    merge_iou: float | None,
    masks: bool,
    negatives: Negatives = (),
) -> Request:
    """What `GroundingPredictor.__call__` asks of `count` images."""
    asked = prompts_per_image(
        prompts, count, lambda prompt: _as_prompts(prompt, predictor, negatives)
    )
    if score_threshold is None:
        score_threshold = predictor.score_threshold
    merge_iou = predictor.merge_iou if merge_iou is None else merge_iou
    check_thresholds(score_threshold, merge_iou)
    options = {
        "min_score": score_threshold,
        "merge_iou": merge_iou,
        "boxes_only": not masks,
        "shortlist": Shortlist.of_settings(vars(predictor)),
    }
    return Request(asked, options, results.detections)


def to_tell_presence(predictor: GroundingPredictor, prompts: PromptLike) -> Request:
    """What `EncodedImage.presence` asks: to detect, but no box is wanted."""
    if not predictor.glip.heads_of(PresenceHead):
        raise ConfigError(
            "whether a phrase is in an image is told by a model with model.presence_head, and this "
            "model has none: take a config that has it, with weights that were trained with it"
        )
    request = to_detect(predictor, prompts, 1, 1.0, None, False)
    if any(prompt.kind in TASKS for prompt in request.prompts[0]):
        raise PromptError("presence is told of names and sentences, not of questions or captions")
    options = {**request.options, "shortlist": None}
    return request._replace(options=options, read=results.presence)


def to_answer(
    predictor: GroundingPredictor,
    questions: str | Prompt | Sequence[str | Prompt],
    count: int,
    score_threshold: float | None,
    masks: bool,
) -> Request:
    """What `GroundingPredictor.answer` asks of `count` images."""
    asked = questions_per_image(questions, count, predictor.glip, predictor.phrases)
    return Request(asked, _of_phrases(predictor, score_threshold, masks), results.answer)


def to_caption(
    predictor: GroundingPredictor,
    beginning: str,
    count: int,
    decoding: Decoding | None,
    score_threshold: float | None,
    masks: bool,
) -> Request:
    """What `GroundingPredictor.caption` asks of `count` images."""
    if not isinstance(beginning, str):
        raise PromptError(
            f"a beginning is a text, one for all images, got {beginning!r:.80} of type "
            f"{type(beginning).__name__}"
        )
    if not isinstance(decoding, Decoding | None):
        raise UsageError(f"decoding is a Decoding, as Decoding(beam_size=3), got {decoding!r:.80}")
    options = _of_phrases(predictor, score_threshold, masks)
    options["phrases"] = predictor.phrases
    if decoding is not None:
        options["decoding"] = decoding
    return Request([[Prompt.unwritten(beginning)]] * count, options, results.caption)


def _of_phrases(
    predictor: GroundingPredictor, score_threshold: float | None, masks: bool
) -> dict[str, Any]:
    """The options of a question or caption."""
    if score_threshold is None:
        score_threshold = predictor.phrase_threshold
    check_fraction("score_threshold", score_threshold)
    return {"min_score": score_threshold, "boxes_only": not masks}


def check_thresholds(score_threshold: Any, merge_iou: Any) -> None:
    """Raise a UsageError where one of the two is none."""
    check_fraction("score_threshold", score_threshold)
    if merge_iou is not None:
        check_fraction("merge_iou", merge_iou)
        if merge_iou == 0:
            raise UsageError("merge_iou must lie in (0, 1] or be None, got 0")


def check_fraction(name: str, value: Any) -> None:
    """Raise a UsageError where `value` is no number in [0, 1]."""
    # NaN is in no interval.
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise UsageError(f"{name} must be a number in [0, 1] (0.35 for 35 %), got {value!r}")


def prompts_per_image(
    prompts: PromptLike | Sequence[PromptLike],
    count: int,
    read: Callable[[object], list[Prompt]],
) -> list[list[Prompt]]:
    """The prompts of each of `count` images; see `GroundingPredictor`.

    Args:
        read: the prompts of one image.

    Raises:
        UsageError: not one prompt per image; or a list that may be read in two ways.
        PromptError: an empty prompt, or none of the forms.
    """
    if isinstance(prompts, Word | Prompt):
        return [read(prompts)] * count
    if not _is_several(prompts):
        raise PromptError(_kinds_message([prompts]))
    asked = list(prompts)
    if not asked or _are_tuned(asked) or _are_class_names(asked):
        return [read(asked)] * count
    if _are_words(asked) and any(isinstance(item, Word) for item in asked):
        if len(asked) == count > 1 and not all(isinstance(item, Word) for item in asked):
            raise UsageError(
                f"{count} names and lists of names are given for {count} images: classes of all "
                f"images are given as [classes] * {count}, and one prompt for each image as a "
                "list each"
            )
        return [read(asked)] * count
    if len(asked) != count:
        what = "caption" if isinstance(asked[0], str) else "prompt"
        what += "s are" if len(asked) > 1 else " is"
        raise UsageError(
            f"{len(asked)} {what} given for {count} image{'s' * (count > 1)}: give one "
            "for all images, not in a list, or one per image"
        )
    # What is given for several images, as a large vocabulary, is read once.
    made = {key: read(item) for key, item in {id(item): item for item in asked}.items()}
    return [made[id(item)] for item in asked]


def questions_per_image(
    questions: str | Prompt | Sequence[str | Prompt], count: int, model: GLIP, phrases: str
) -> list[list[Prompt]]:
    """The question about each of `count` images; see `GroundingPredictor.answer`.

    Args:
        model: its head says whether a question leaves its answer open, to be grounded.
        phrases: back end that finds the phrases of a question without brackets.

    Raises:
        UsageError: not one question per image.
        PromptError: a question that is empty, too long, or no question.
    """
    one = isinstance(questions, str | Prompt) or not _is_several(questions)
    given: Any = questions
    asked = [given] if one else list(given)
    if not one and len(asked) != count:
        what = "questions are" if len(asked) > 1 else "question is"
        raise UsageError(
            f"{len(asked)} {what} given for {count} image{'s' * (count > 1)}: give one for all "
            "images, not in a list, or one per image"
        )
    ground_answer = any(head.ground_answer for head in model.heads_of(AnsweringHead))
    prompts = [_as_question(question, phrases, ground_answer) for question in asked]
    model.tokenizer(prompts)  # one that is too long is refused before an image is read
    return [[prompt] for prompt in prompts] * (count if one else 1)


def _as_question(question: object, phrases: str, ground_answer: bool) -> Prompt:
    if isinstance(question, str):
        return read_question(question, phrases, ground_answer)
    if not isinstance(question, Prompt):
        raise PromptError(
            f"a question is a text or a Prompt, got {question!r:.80} of type "
            f"{type(question).__name__}"
        )
    if question.kind != "question":
        raise PromptError(
            f"{shorten(question.caption)!r} is no question but a prompt of kind {question.kind!r}: "
            "make it with kind='question', or detect with it"
        )
    return question


def read_negatives(negatives: Negatives, names: Iterable[str] = ()) -> list[Word]:
    """`GroundingPredictor`'s `negatives` one by one.

    Args:
        names: of what is asked for.

    Raises:
        PromptError: they are no names, or one of them is asked for.
    """
    words: list[Word] = []
    if isinstance(negatives, str):
        words += read_names(negatives) if negatives else []
    else:
        words += negatives if isinstance(negatives, Iterable) else [negatives]
    if not all(isinstance(word, Word) for word in words):
        raise PromptError(
            f"negatives are names, as ['fox', 'wolf'], or exemplars, got {negatives!r:.80}"
        )
    asked = set(map(bare_name, names))
    both = [word for word in words if isinstance(word, str) and bare_name(word) in asked]
    if both:
        raise PromptError(
            f"{both[0]!r} is asked for, and is a negative, too: take it out of one of the two"
        )
    return words


def _as_prompts(
    prompt: object, predictor: GroundingPredictor, negatives: Negatives = ()
) -> list[Prompt]:
    """The prompts of one image."""
    if isinstance(prompt, str):
        prompt = read_prompt(prompt, backend=predictor.phrases)
    items: list[Any] = [prompt]
    if _is_several(prompt) and not isinstance(prompt, Prompt):
        items = list(prompt)
    if not items:
        raise PromptError("the prompt is empty: give class names, a caption or a Prompt")
    made = [item for item in items if isinstance(item, Prompt)]
    if len(made) == len(items):
        made = _numbered_on(made) if _are_tuned(made) else made
        words = read_negatives(negatives, (name for p in made for name in p.names))
        return made + _prompts_of(predictor.glip, [(word, NEGATIVE) for word in words])
    if _are_class_names(items) or _are_words(items):
        classes = [(w, i) for i, item in enumerate(items) for w in _words_of(item)]
        words = read_negatives(negatives, [w for w, _ in classes if isinstance(w, str)])
        return _prompts_of(predictor.glip, [*classes, *((word, NEGATIVE) for word in words)])
    if not all(isinstance(item, str) for item in items):
        raise PromptError(_kinds_message(items))
    if len(items) > 1:
        raise PromptError(
            f"one image is asked {len(items)} captions, {items[0]!r} and others: mark all phrases "
            "in one caption, or give their names as a list of classes"
        )
    return _as_prompts(items[0], predictor, negatives)


def _is_several(prompts: object) -> TypeGuard[Iterable[Any]]:
    """Whether it is some iterable of prompts: of {3: "cat"} the numbers would be lost."""
    return isinstance(prompts, Iterable) and not isinstance(prompts, Mapping | bytes)


def _prompts_of(model: GLIP, words: Sequence[tuple[Word, int]]) -> list[Prompt]:
    return prompts_of_words(model.tokenizer, words, model.chunk_size)


def _words_of(item: Any) -> list[Word]:
    """Those of a class."""
    return [item] if isinstance(item, Word) else [*item]


def _are_tuned(items: Sequence) -> bool:
    """Whether these are all tuned prompts, as their files give them."""
    return all(isinstance(item, Prompt) and item.embedding_id is not None for item in items)


def _numbered_on(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Tuned prompts with the classes of each file numbered after those of the files before it."""
    first: dict[str, int] = {}
    numbered, count = [], 0
    for prompt in prompts:
        start = first.setdefault(str(prompt.embedding_id).rpartition("/")[0], count)
        ids = tuple(start + i for i in prompt.class_ids)
        count = max(count, *(i + 1 for i in ids))
        numbered.append(replace(prompt, class_ids=ids))
    return numbered


def _are_class_names(items: Sequence) -> bool:
    """Whether a list holds strings without brackets only.

    Raises:
        PromptError: it holds strings with brackets and strings without.
    """
    if not all(isinstance(item, str) for item in items):
        return False
    marked = [item for item in items if "[" in item or "]" in item]
    if 0 < len(marked) < len(items):
        plain = next(item for item in items if item not in marked)
        raise PromptError(
            f"a list of strings holds class names, or captions with their phrases in [brackets], "
            f"but this one holds both: {plain!r} and {marked[0]!r}: mark the phrases of every "
            "caption, or give the classes of an image as a list of their own"
        )
    return not marked


def _are_words(items: Sequence) -> bool:
    """Whether these are names, exemplars, and lists of such for classes that have several words."""
    lists = [item for item in items if isinstance(item, list | tuple) and item]
    words = [word for item in items for word in (item if item in lists else [item])]
    captions = all(isinstance(item, str) for item in items)  # or names, which were seen before
    return not captions and all(isinstance(word, Word) for word in words)


def _kinds_message(items: Sequence) -> str:
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    return f"a prompt is a caption, class names or a Prompt, but this one holds {kinds}"
