"""Self-attention of words: what is visible, and that a text goes on as if read at once."""

import pytest
import torch
from torch import nn

from glipv2_d2.modeling.fusion.vl_tower import text_layer
from glipv2_d2.modeling.text.attention import KeyValueCache, attend, visible_words

CHANNELS, HEADS, WORDS = 12, 3, 5


def test_visible_words_by_hand():
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, False]])
    visible = visible_words(mask, torch.tensor([True, True, False]))
    assert visible.int().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 0]],
        [[1, 1, 0], [1, 1, 0], [1, 1, 0]],
    ]
    assert torch.equal(visible_words(mask), mask[:, None])
    assert torch.equal(visible_words(mask, torch.zeros(3).bool()).any(1), mask)


def layers(norm):
    torch.manual_seed(0)
    made = nn.ModuleList(text_layer(CHANNELS, HEADS, 20, 0.0, norm) for _ in range(2)).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def read(made, words, cache):
    visible = cache.visible_to(words)
    for layer in made:
        words = layer(words, visible, cache)
    return words


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("steps", [[1] * WORDS, [3, 2], [2, 1, 2]])
def test_words_in_steps_are_words_at_once(norm, steps):
    made = layers(norm)
    words = torch.randn(2, WORDS, CHANNELS, dtype=torch.float64)
    expected = words
    for layer in made:
        expected = layer(expected, visible_words(torch.ones(2, WORDS).bool(), torch.ones(2).bool()))
    cache, parts = KeyValueCache(), []
    for part in words.split(steps, dim=1):
        assert cache.length == sum(p.shape[1] for p in parts)
        parts.append(read(made, part, cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)


def test_select_goes_on_with_other_texts():
    """Two texts become three, of which two begin as the second."""
    made = layers("post")
    words = torch.randn(2, 3, CHANNELS, dtype=torch.float64)
    more = torch.randn(3, 1, CHANNELS, dtype=torch.float64)
    chosen = torch.tensor([1, 0, 1])
    cache = KeyValueCache()
    read(made, words, cache)
    cache.select(chosen)
    expected = read(made, torch.cat((words[chosen], more), dim=1), KeyValueCache())[:, -1:]
    torch.testing.assert_close(read(made, more, cache), expected)


def test_attention_weights_are_dropped():
    projected = [torch.randn(1, 50, 8, requires_grad=True) for _ in range(3)]
    visible = torch.ones(1, 1, 50, dtype=torch.bool)
    torch.manual_seed(0)
    dropped = attend(nn.Identity(), projected, 2, visible, dropout=0.5)
    assert (dropped - attend(nn.Identity(), projected, 2, visible)).abs().max() > 0.01
