"""Captions written word by word: cached as recomputed, searched as by brute force."""

import pytest
import torch

from glipv2_d2.language import Prompt
from glipv2_d2.modeling.generation import Decoding, Written, search, write_captions
from tests.support.tiny_captions import (
    Recomputed,
    tiny_captioner,
    tiny_features,
)

GREEDY = Decoding(beam_size=1, max_length=8)
BEAM = Decoding(beam_size=3, max_length=8)
NUCLEUS = Decoding(beam_size=1, max_length=8, top_p=0.8, temperature=1.5, seed=3)
UNWRITTEN = Prompt.unwritten()


@pytest.fixture(scope="module", params=["bert", "clip"])
def captioner(request):
    return tiny_captioner(request.param)


@pytest.fixture(scope="module")
def features(captioner):
    return tiny_features(captioner, 4)


def recomputed(model, features, prompts, decoding):
    """What `write_captions` gives, without a cache and one image after another."""
    tokenizer, results = model.tokenizer, []
    for i, prompt in enumerate(prompts):
        *start, end = tokenizer.encode(prompt.caption).ids
        words = Recomputed(model, [level[i : i + 1] for level in features])
        with torch.no_grad():
            ((tokens, score),) = search(
                words, torch.tensor([start]), end, tokenizer.writable, decoding
            )
        results.append(Written(tokenizer.decode(start + tokens), score))
    return results


def assert_same(actual, expected):
    assert [w.caption for w in actual] == [w.caption for w in expected]
    # Two layers of float32, attended in another order; log-probabilities of size 1 to 10.
    scores = [[w.score for w in written] for written in (actual, expected)]
    torch.testing.assert_close(*map(torch.tensor, scores), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("decoding", [GREEDY, BEAM, NUCLEUS], ids=["greedy", "beam", "nucleus"])
def test_cached_is_recomputed(captioner, features, decoding, count):
    """Token for token; a batch is what its images are one by one, since the reference is that."""
    features, prompts = [level[:count] for level in features], [UNWRITTEN] * count
    expected = recomputed(captioner, features, prompts, decoding)
    assert_same(write_captions(captioner, features, prompts, decoding), expected)
    if count > 1:  # and the images matter
        assert len({w.caption for w in expected}) > 1


@pytest.mark.parametrize("decoding", [GREEDY, BEAM])
def test_beginnings_of_different_lengths(captioner, features, decoding):
    prompts = [Prompt.unwritten(text) for text in ("a", "", "a red kite", "the")]
    written = write_captions(captioner, features, prompts, decoding)
    assert_same(written, recomputed(captioner, features, prompts, decoding))
    assert all(w.caption.startswith(p.caption) for w, p in zip(written, prompts))
