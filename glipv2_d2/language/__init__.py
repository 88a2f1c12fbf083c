"""Prompts and tokens: the one place for spans and token logic, below everything else."""

from .class_names import written_alike
from .negatives import DetectionPromptSampler
from .noun_phrases import NOUN_PHRASE_EXTRACTORS, register_noun_phrase_extractor
from .phrase_list import PhraseList
from .prompt import Prompt, clean_name, names_direction
from .prompt_text import read_prompt
from .spans import span_problem
from .tokenized import TokenizedPrompts, Tokenizer
from .tokenizer import PromptTokenizer

__all__ = [
    "NOUN_PHRASE_EXTRACTORS",
    "DetectionPromptSampler",
    "PhraseList",
    "Prompt",
    "PromptTokenizer",
    "TokenizedPrompts",
    "Tokenizer",
    "clean_name",
    "names_direction",
    "read_prompt",
    "register_noun_phrase_extractor",
    "span_problem",
    "written_alike",
]
