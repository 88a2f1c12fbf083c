"""Looking at a data set before training on it: pictures and prompts."""

from .drawing import contact_sheet, draw_record
from .labels import write_changes, write_labels
from .prompts import describe_prompt, evaluation_prompts, training_prompt

__all__ = [
    "contact_sheet",
    "describe_prompt",
    "draw_record",
    "evaluation_prompts",
    "training_prompt",
    "write_changes",
    "write_labels",
]
