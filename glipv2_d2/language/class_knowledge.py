"""What is told about classes besides their names: words of a caption, or definitions.

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

**Definitions** of dictionaries and language models, the official GLIP's knowledge files, are what
that language backbone may read instead of the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, PromptError
from .prompt import SEPARATOR, Prompt, clean_name
from .spans import Span

__all__ = ["knowledge_prompts", "read_definitions"]

SOURCES = ("def_wiki", "gpt3")
SENTENCES = 3  # of a field that is a list
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


def read_definitions(path: str | Path) -> dict[str, str]:
    """Class name -> "name: definition", from a file like `odinw_benchmark35_knowledge_and_gpt3`.

    As the official command for GLIP's knowledge model has it (`WIKI_AND_GPT3`, `GPT3_NUM 3`):
    Wiktionary's definition followed by three sentences of GPT-3, and a class that lacks one of the
    two is read without any definition.

    Args:
        path: YAML; `{class name: {"clean_name": ..., "def_wiki": ..., "gpt3": [...]}}`.

    Raises:
        ConfigError: no such file, no YAML, or nothing of this form in it.
    """
    result = {}
    for name, entry in _read(path).items():
        if not isinstance(entry, Mapping):
            raise ConfigError(
                f"'{path}': the class {name!r} has {type(entry).__name__} instead of a table with "
                f"clean_name and {', '.join(SOURCES)}"
            )
        try:
            key = clean_name(name)
        except PromptError:
            continue  # the official file has an entry without a name
        told = [_text(entry.get(source)) for source in SOURCES]
        if all(told):
            result[key] = f"{entry.get('clean_name') or key}: {' '.join(told)}"
    if not result:
        raise ConfigError(f"'{path}' defines no class by {' and '.join(SOURCES)}")
    return result


def _read(path: str | Path) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise ConfigError(
            f"the class definitions '{path}' cannot be read: {error.strerror}. The official file "
            "is knowledge/odinw_benchmark35_knowledge_and_gpt3.yaml of GLIP's repository"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is no YAML file: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"'{path}' is no table of classes and what is told about them")
    return content


def _text(value: Any) -> str:
    parts = value[:SENTENCES] if isinstance(value, list) else [value]
    return " ".join(str(part).strip() for part in parts if part)
