"""A table of words as a language backbone; the files are tests/checkpoint's."""

import torch

from glipv2_d2.language import Prompt
from glipv2_d2.language.frozen_tokenizer import FrozenTokenizer
from glipv2_d2.modeling.text import FrozenVocabulary
from tests.support.tiny import tiny_model


def test_each_prompt_has_its_rows_and_they_are_trained():
    prompts = [Prompt.from_classes(["cat", "dog"]), Prompt.from_classes(["kite"])]
    tokenizer = FrozenTokenizer.of(tiny_model().tokenizer, prompts)
    words = FrozenVocabulary(model=tokenizer, channels=4)
    with torch.no_grad():
        words.words.copy_(torch.arange(8.0)[:, None].expand(8, 4))
    text = words(tokenizer(prompts[::-1]))
    assert text.hidden[..., 0].tolist() == [[5, 6, 7, 0, 0], [0, 1, 2, 3, 4]]
    text.hidden[0].sum().backward()
    assert words.words.grad[:, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert not FrozenVocabulary(model=tokenizer, channels=4, frozen=True).words.requires_grad
