"""Looking at a data set before training on it: counts, checks, pictures, prompts."""

from .drawing import draw_record
from .prompts import describe_prompt, evaluation_prompts, training_prompt
from .scan import Scan, scan_dataset

__all__ = [
    "Scan",
    "describe_prompt",
    "draw_record",
    "scan_dataset",
    "evaluation_prompts",
    "training_prompt",
]
