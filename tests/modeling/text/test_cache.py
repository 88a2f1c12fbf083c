"""The cache of text features: what hits, what misses, what empties it."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from glipv2_d2.language import Prompt, TokenizedPrompts
from glipv2_d2.modeling.text import (
    BertLanguageBackbone,
    ParameterCache,
    TextFeatureCache,
    TextFeatures,
)
from tests.support.tiny import tiny_bert_folder


class CountingEncoder(nn.Module):
    """Features of a token depend on it and on its position; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 4)
        self.linear = nn.Linear(4, 4)
        self.asked = []

    def forward(self, tokens):
        self.asked.append([ids[mask].tolist() for ids, mask in zip(tokens.input_ids, tokens.mask)])
        self.shape = tuple(tokens.input_ids.shape)
        self.causal = tokens.causal
        position = torch.arange(tokens.input_ids.shape[1])[:, None]
        hidden = self.linear(self.table(tokens.input_ids)) + position
        return TextFeatures(hidden, 2 * hidden * tokens.mask[..., None], tokens.mask)

    def count(self):
        """Prompts encoded since the last call."""
        asked, self.asked = sum(self.asked, []), []
        return len(asked)


def batch(*rows):
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    return TokenizedPrompts(ids, mask, [torch.ones(1, length, dtype=torch.bool)] * len(rows))


A, B, C = [1, 7, 2], [1, 8, 9, 3, 2], [1, 4, 2]


@pytest.fixture
def encoder():
    return CountingEncoder()


@pytest.fixture
def cache(encoder):
    return TextFeatureCache(encoder)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def assert_right(encoder, features, tokens):
    """What comes out of the cache equals the encoder's own features on the real tokens."""
    expected = encoder(tokens)
    encoder.count()
    assert torch.equal(features.mask, tokens.mask)
    for actual, reference in (
        (features.hidden, expected.hidden), (features.embedded, expected.embedded)
    ):  # fmt: skip
        assert actual.shape == reference.shape
        torch.testing.assert_close(actual[tokens.mask], reference[tokens.mask])
        assert not actual[~tokens.mask].any()


def test_hits_and_misses(encoder, cache):
    first = cache.encode(batch(A, B))
    assert encoder.count() == 2 and len(cache) == 2
    assert_right(encoder, first, batch(A, B))
    again = cache.encode(batch(B, A))
    assert encoder.count() == 0
    assert_right(encoder, again, batch(B, A))
    mixed = cache.encode(batch(C, B, A))
    assert encoder.asked == [[C]]
    assert_right(encoder, mixed, batch(C, B, A))


def test_padding_does_not_belong_to_the_key(encoder, cache):
    cache.encode(batch(A))
    features = cache.encode(batch(A, B))
    assert encoder.asked == [[A], [B]]
    assert_right(encoder, features, batch(A, B))
    assert_right(encoder, cache.encode(batch(A)), batch(A))


def test_misses_are_padded_to_their_own_longest(encoder, cache):
    cache.encode(batch(B))
    cache.encode(batch(A, B, C))
    assert encoder.shape == (2, 3)


def test_one_prompt_of_several_images_is_encoded_once(encoder, cache):
    features = cache.encode(batch(A, A, B, A))
    assert encoder.count() == 2
    assert_right(encoder, features, batch(A, A, B, A))


def test_bound_drops_the_least_recently_used(encoder):
    cache = TextFeatureCache(encoder, capacity=2)
    cache.encode(batch(A))
    cache.encode(batch(B))
    cache.encode(batch(A))  # now B is the oldest
    cache.encode(batch(C))
    assert len(cache) == 2
    encoder.count()
    cache.encode(batch(A, C))
    assert encoder.count() == 0
    cache.encode(batch(B))
    assert encoder.count() == 1


def test_a_batch_larger_than_the_bound(encoder):
    cache = TextFeatureCache(encoder, capacity=2)
    features = cache.encode(batch(A, B, C))
    assert len(cache) == 2
    assert_right(encoder, features, batch(A, B, C))


def step(encoder):
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    with torch.enable_grad():
        features = encoder(batch(A))
        features.hidden.square().sum().backward()
    optimizer.step()
    encoder.count()


def load(encoder):
    state = {n: v + 1 for n, v in encoder.state_dict().items()}
    encoder.load_state_dict(state)


def swap_data(encoder):
    encoder.linear.bias.data = encoder.linear.bias.data + 1


def swap_data_of_equal_last_element(encoder):
    """Seen by the address alone."""
    weight = encoder.linear.weight.data.clone()
    weight[0, 0] += 1
    encoder.linear.weight.data = weight


def change_one_element(encoder):
    """Seen by the version counter alone."""
    encoder.linear.weight[0, 0] += 1


def ema_copy_through_data(encoder):
    for parameter in encoder.parameters():
        parameter.data.copy_(parameter.data * 0.5 + 0.1)


def interpolate_through_data(encoder):
    encoder.linear.weight.data.lerp_(torch.ones(4, 4), 0.3)


def replace_parameter(encoder):
    encoder.linear.weight = nn.Parameter(torch.ones(4, 4))


def change_type_and_back(encoder):
    encoder.to(torch.bfloat16).to(torch.float32)


@pytest.mark.parametrize(
    "change",
    [
        step,
        load,
        swap_data,
        swap_data_of_equal_last_element,
        change_one_element,
        ema_copy_through_data,
        interpolate_through_data,
        replace_parameter,
        change_type_and_back,
    ],
)
def test_any_change_of_the_encoder_empties_it(encoder, cache, change):
    before = cache.encode(batch(A, B))
    encoder.count()
    change(encoder)
    after = cache.encode(batch(A, B))
    assert encoder.count() == 2
    assert not torch.equal(before.hidden, after.hidden)
    assert_right(encoder, after, batch(A, B))
    cache.encode(batch(A, B))
    assert encoder.count() == 0


def test_what_was_made_of_earlier_weights_is_not_kept(encoder):
    """One thread makes it, while another loads weights and asks for something else."""
    cache = ParameterCache(encoder, capacity=9)

    def make(rows):
        load(encoder)
        cache.get(["b"], lambda rows: ["of the new weights"])
        return ["of the old weights"]

    assert cache.get(["a"], make) == ["of the old weights"]
    assert cache.get(["a", "b"], lambda rows: ["new"]) == ["new", "of the new weights"]


def test_clear(encoder, cache):
    cache.encode(batch(A))
    cache.clear()
    assert len(cache) == 0
    cache.encode(batch(A))
    assert encoder.count() == 2


def test_autocast_types_are_kept_apart(encoder, cache):
    exact = cache.encode(batch(A))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = cache.encode(batch(A))
        assert encoder.count() == 2
        cache.encode(batch(A))
    assert encoder.count() == 0
    assert not torch.equal(exact.hidden, mixed.hidden)
    assert torch.equal(cache.encode(batch(A)).hidden, exact.hidden)
    assert encoder.count() == 0


def test_writing_into_the_result_does_not_spoil_the_cache(encoder, cache):
    cache.encode(batch(A)).hidden.zero_()
    assert_right(encoder, cache.encode(batch(A)), batch(A))


def test_entries_carry_no_graph(encoder, cache):
    """In evaluation with gradients on, a cached graph would be walked twice, and never freed."""
    with torch.enable_grad():
        for _ in range(2):
            features = cache.encode(batch(A))
            assert not features.hidden.requires_grad and not features.embedded.requires_grad


def test_entries_made_in_inference_mode_serve_outside(encoder, cache):
    with torch.inference_mode():
        cache.encode(batch(A))
    with torch.enable_grad():
        features = cache.encode(batch(A))
        weight = torch.ones(4, requires_grad=True)
        (features.hidden * weight).sum().backward()
    assert weight.grad.any()
    assert encoder.count() == 1


def test_train_empties_the_models_cache(model):
    tokens = model.tokenizer([Prompt.from_classes(["cat"])])
    model.text_cache.encode(tokens)
    assert len(model.text_cache) == 1
    model.train()
    assert len(model.text_cache) == 0


def test_loading_weights_into_the_model_is_noticed(model):
    tokens = model.tokenizer([Prompt.from_classes(["cat"])])
    before = model.text_cache.encode(tokens).hidden
    state = copy.deepcopy(model.state_dict())
    name = "language_backbone.body.embeddings.LayerNorm.bias"
    state[name] += 1
    model.load_state_dict(state)
    after = model.text_cache.encode(tokens).hidden
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.language_backbone(tokens).hidden)


def test_real_encoder_batch_equals_single():
    torch.manual_seed(0)
    encoder = BertLanguageBackbone(model=tiny_bert_folder(), pretrained=False).eval()
    prompts = [Prompt.from_classes([c]) for c in ("dog", "a red kite above the sea", "cat mat")]
    cache = TextFeatureCache(encoder)
    together = cache.encode(encoder.tokenizer(prompts))
    for i, prompt in enumerate(prompts):
        single = encoder(encoder.tokenizer([prompt]))
        n = single.mask.shape[1]
        torch.testing.assert_close(together.hidden[i, :n], single.hidden[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            together.embedded[i, :n], single.embedded[0], atol=1e-5, rtol=1e-5
        )


def test_a_causal_text_has_features_of_its_own(cache, encoder):
    """And says so to the encoder: the same words are read otherwise."""
    tokens = batch(A, A, B)
    cache.encode(tokens)
    assert encoder.count() == 2
    causal = replace(tokens, causal=torch.tensor([True, False, False]))
    features = cache.encode(causal)
    assert encoder.count() == 1 and encoder.causal.tolist() == [True]
    assert features.causal.tolist() == [True, False, False]
    cache.encode(replace(tokens, causal=torch.tensor([True, True, False])))
    assert encoder.count() == 0
    unseen = cache.encode(replace(tokens, seen_by_image=torch.tensor([False, True, True])))
    assert encoder.count() == 0  # the image does not change what the language backbone reads
    assert unseen.seen_by_image.tolist() == [False, True, True] and unseen.causal is None
