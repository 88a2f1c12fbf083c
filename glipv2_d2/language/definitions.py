"""What dictionaries and language models tell about classes: the official GLIP's knowledge files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, PromptError
from .prompt import clean_name

__all__ = ["read_definitions"]

SOURCES = ("def_wiki", "gpt3")
SENTENCES = 3  # of a field that is a list


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
