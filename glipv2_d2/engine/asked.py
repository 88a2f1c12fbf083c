"""What a user asks, in any of the forms that GroundingPredictor takes, as prompts of each image."""

from collections.abc import Iterable, Sequence

from ..errors import PromptError, UsageError
from ..language.prompt import Prompt
from ..language.prompt_text import read_prompt
from ..modeling import GLIP

__all__ = ["PromptLike", "prompts_per_image"]

PromptLike = str | Prompt | Sequence[str] | Sequence[Prompt]


def prompts_per_image(
    prompts: PromptLike | Sequence[PromptLike], count: int, model: GLIP, phrases: str
) -> list[list[Prompt]]:
    """The prompts of each of `count` images; see `GroundingPredictor`.

    Args:
        model: its tokenizer and `chunk_size` split long lists of names.
        phrases: back end that finds the phrases of a sentence without brackets.

    Raises:
        UsageError: not one prompt per image.
        PromptError: an empty prompt, or none of the forms.
    """
    if isinstance(prompts, str | Prompt):
        return [_as_prompts(prompts, model, phrases)] * count
    if not isinstance(prompts, Iterable):
        raise PromptError(_kinds_message([prompts]))
    asked = list(prompts)
    if not asked or _are_class_names(asked):
        return [_as_prompts(asked, model, phrases)] * count
    if len(asked) != count:
        what = "caption" if isinstance(asked[0], str) else "prompt"
        what += "s are" if len(asked) > 1 else " is"
        raise UsageError(
            f"{len(asked)} {what} given for {count} image{'s' * (count > 1)}: give one "
            "for all images, not in a list, or one per image"
        )
    return [_as_prompts(item, model, phrases) for item in asked]


def _as_prompts(prompt: object, model: GLIP, phrases: str) -> list[Prompt]:
    """The prompts of one image."""
    if isinstance(prompt, str):
        prompt = read_prompt(prompt, backend=phrases)
    if isinstance(prompt, Prompt):
        return [prompt]
    items = list(prompt) if isinstance(prompt, Iterable) else [prompt]
    if not items:
        raise PromptError("the prompt is empty: give class names, a caption or a Prompt")
    made = [item for item in items if isinstance(item, Prompt)]
    texts = [item for item in items if isinstance(item, str)]
    if len(made) == len(items):
        return made
    if len(texts) < len(items):
        raise PromptError(_kinds_message(items))
    if _are_class_names(texts):
        return model.tokenizer.split(texts, size=model.chunk_size)
    if len(texts) > 1:
        raise PromptError(
            f"one image is asked {len(texts)} captions, {texts[0]!r} and others: mark all phrases "
            "in one caption, or give their names as a list of classes"
        )
    return _as_prompts(texts[0], model, phrases)


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


def _kinds_message(items: Sequence) -> str:
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    return f"a prompt is a caption, class names or a Prompt, but this one holds {kinds}"
