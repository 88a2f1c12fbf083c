"""Prompts and tokens: the one place where text becomes something that a model can score.

The way of a prompt, and where each step is:

    caption, class names    as typed: `read_prompt`; from data: the mapper
      -> spans              the characters of each phrase: `Prompt.from_classes`,
                            `Prompt.from_caption`; what a span is: `spans.span_problem`
      -> tokens             `PromptTokenizer(prompts)` gives `TokenizedPrompts`: ids, padding mask
      -> positive map       (K, T), the tokens of each phrase: `positive_map.positive_map`, from
                            the characters of each token
      -> scores per class   `ClassMap.scores`: the mean over the tokens of a phrase, then the best
                            phrase of a class

Beside it:

    spans           checks, finds and widens spans       noun_phrases  phrases of English captions
    negatives       what else an image is asked for      chunks        vocabularies under the limit
    class_names     when two names are one; catalogs     phrase_list   strings within `Instances`
    class_knowledge                                      what is told about a class besides its name
    class_tokenizer                                      whole classes as tokens
    pretrained_names, clip_vocabulary                    where a tokenizer's files come from

A tokenizer of one's own follows `Tokenizer`; a function that finds phrases is registered in
`NOUN_PHRASE_EXTRACTORS`. The package imports nothing of this project but `errors`.
"""

from .class_names import written_alike
from .negatives import DetectionPromptSampler
from .noun_phrases import NOUN_PHRASE_EXTRACTORS
from .phrase_list import PhraseList
from .positive_map import ClassMap
from .prompt import Prompt, clean_name, names_direction
from .prompt_text import read_prompt
from .spans import span_problem
from .tokenized import TokenizedPrompts, Tokenizer
from .tokenizer import PromptTokenizer

__all__ = [
    "NOUN_PHRASE_EXTRACTORS",
    "ClassMap",
    "DetectionPromptSampler",
    "PhraseList",
    "Prompt",
    "PromptTokenizer",
    "TokenizedPrompts",
    "Tokenizer",
    "clean_name",
    "names_direction",
    "read_prompt",
    "span_problem",
    "written_alike",
]
