"""Detection prompts with something told about the classes.

**Caption knowledge.** Four configs of the official ODinW-35 set (`CAPTION_PROMPT`, read with
`USE_CAPTION_PROMPT`) write a few words around the name of each class, or another name: "there
are some holes on the road" for the class "pothole". As in the official `create_queries_and_maps`
the classes follow one another in id order with the separator between them, and only the name is
the phrase that is scored, not what stands around it.

**Parallel encoding.** A class's tokens attend to the other classes of a prompt in the language
backbone and in the tower. Prompts of one class (`size=1`) have each class encoded on its own, and
its scores do not depend on what else is asked, at the price of one run of the tower per class. The
official `PARALLEL_LANGUAGE_INPUT` is a language backbone of its own, one vector per class:
`ParallelClassBert`. It reads the phrases of these prompts and nothing around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import PromptError
from .prompt import SEPARATOR, Prompt, clean_name
from .spans import Span

# What stands before and behind a class in the caption, and what it is called there.
ClassKnowledge = Mapping[str, str]


def knowledge_prompts(
    class_names: Sequence[str],
    knowledge: Mapping[str, ClassKnowledge],
    size: int | None = None,
    separator: str = SEPARATOR,
) -> list[Prompt]:
    """Detection prompts with caption knowledge, which keep the vocabulary's class ids.

    Args:
        class_names: the vocabulary, in the order of the class ids.
        knowledge: class name -> {"prefix", "name", "suffix"}, as `caption_knowledge` of the
            metadata of ODinW's data sets; classes without an entry are written as they are.
            Spaces are part of prefix and suffix.
        size: at most so many classes in a prompt (1: every class on its own); None: all in one.
        separator: between two classes.

    Returns:
        Prompts whose phrases are the names alone.

    Raises:
        PromptError: no classes, knowledge of a class that is not among them, a name that is no
            whole word of the caption it gives, or `size` is not positive.
    """
    if not class_names:
        raise PromptError("the prompt is empty: the list of class names has no entries")
    if size is not None and size < 1:
        raise PromptError(f"a prompt must hold at least one name, got size={size}")
    strangers = sorted(set(knowledge) - set(class_names))
    if strangers:
        raise PromptError(
            f"there is caption knowledge of the classes {strangers}, which are not among the "
            f"classes of the prompt {list(class_names)}"
        )
    every, size = range(len(class_names)), size or len(class_names)
    parts = [every[start : start + size] for start in every[::size]]
    return [_prompt([class_names[i] for i in p], knowledge, p, separator) for p in parts]


def _prompt(
    class_names: Sequence[str],
    knowledge: Mapping[str, ClassKnowledge],
    class_ids: Sequence[int],
    separator: str,
) -> Prompt:
    caption = ""
    spans: list[tuple[Span]] = []
    for name in class_names:
        told = knowledge.get(name, {})
        written = told.get("name") or clean_name(name)
        caption += (separator if spans else "") + told.get("prefix", "")
        spans.append(((len(caption), len(caption) + len(written)),))
        caption += written + told.get("suffix", "")
    names = tuple(map(clean_name, class_names))
    return Prompt(caption, "detection", tuple(spans), names, tuple(class_ids))
