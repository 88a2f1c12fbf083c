"""Plain data that travels between the data loader, the model and its users."""

from glipv2_d2.errors import PromptError, PromptTooLongError
from glipv2_d2.structures.prompt import (
    Prompt,
    clean_name,
    names_direction,
    span_problem,
)
from glipv2_d2.structures.tokenized import TokenizedPrompts

__all__ = [
    "Prompt",
    "PromptError",
    "PromptTooLongError",
    "TokenizedPrompts",
    "clean_name",
    "names_direction",
    "span_problem",
]
