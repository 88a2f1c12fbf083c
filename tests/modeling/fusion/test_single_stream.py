"""The single-stream neck: BERT's layers over image and words, and who sees whom."""

import pytest
import torch

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.fusion import SingleStreamEncoder
from glipv2_d2.modeling.text import BertLanguageBackbone, TextFeatures
from tests.support.tiny import tiny_bert_folder

CHANNELS, TEXT, TOKENS = 12, 32, 5


def encoder(**options):
    torch.manual_seed(0)
    arguments = {"model": tiny_bert_folder(), "pretrained": False, "grid_size": 4}
    result = SingleStreamEncoder(
        **{**arguments, "channels": CHANNELS, "text_channels": TEXT, **options}
    )
    for parameter in result.layers.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # BERT's 0.02 hides who sees whom
    return result.eval()


@pytest.fixture(scope="module")
def neck():
    return encoder()


def inputs(batch=2, height=3, width=4, **structure):
    torch.manual_seed(1)
    hidden = torch.randn(batch, TOKENS, TEXT)
    mask = torch.ones(batch, TOKENS, dtype=torch.bool)
    return [torch.randn(batch, CHANNELS, height, width)], TextFeatures(
        hidden, hidden, mask, **structure
    )


@torch.no_grad()
def test_the_layers_are_those_of_the_pretrained_encoder():
    """Embeddings and layers together are the whole encoder, where there is no image."""
    whole = BertLanguageBackbone(model="minilm").eval()
    start = BertLanguageBackbone(model="minilm", num_layers=0).eval()
    neck = SingleStreamEncoder(model="minilm", pretrained=True, channels=4, text_channels=384)
    tokens = whole.tokenizer([Prompt.from_classes(["a red kite above the sea"])])
    embedded = start(tokens).hidden
    assert not [name for name, _ in start.named_parameters() if "layer." in name]
    actual = neck.eval().layers(embedded).last_hidden_state
    # Six layers in float32, attention with and without a mask.
    torch.testing.assert_close(actual, whole(tokens).hidden, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_padded_batch_equals_single(neck):
    features, text = inputs()
    text.mask[1, 3:] = False
    (level,), words = neck(features, text)
    assert level.shape == (2, TEXT, 3, 4) and words.shape == (2, TOKENS, TEXT)
    for i, length in enumerate((TOKENS, 3)):
        alone = TextFeatures(*(field[[i], :length] for field in (text.hidden,) * 2 + (text.mask,)))
        (one,), one_words = neck([features[0][[i]]], alone)
        # Two layers in float32, over sequences of other lengths.
        torch.testing.assert_close(one[0], level[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one_words[0], words[i, :length], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_words_and_image_see_each_other(neck):
    features, text = inputs()
    (level,), words = neck(features, text)
    changed = TextFeatures(text.hidden.clone(), text.embedded, text.mask)
    changed.hidden[:, -1] += 1
    (other_level,), other_words = neck(features, changed)
    assert (level != other_level).all(dim=1).all()
    assert (words != other_words).any(dim=2).all()
    features[0][:, :, 0, 0] += 1
    assert (neck(features, text)[1] != words).any(dim=2).all()


@torch.no_grad()
def test_a_caption_leaks_nothing(neck):
    """Beside a question in one batch: no word reaches an earlier one, and none the image."""
    structure = {
        "causal": torch.tensor([True, False]), "seen_by_image": torch.tensor([False, True])
    }  # fmt: skip
    features, text = inputs(**structure)
    (level,), words = neck(features, text)
    for position in range(TOKENS):
        changed = TextFeatures(text.hidden.clone(), text.embedded, text.mask, **structure)
        changed.hidden[:, position] += 1
        (other_level,), other_words = neck(features, changed)
        assert torch.equal(other_level[0], level[0])
        assert torch.equal(other_words[0, :position], words[0, :position])
        assert (other_words[0, position:] != words[0, position:]).any(dim=1).all()
        assert (other_level[1] != level[1]).any() and (other_words[1] != words[1]).any()


@torch.no_grad()
def test_positions_of_the_grid():
    """Rows and columns are told apart; without a table the tower has told them."""
    same = [torch.ones(1, CHANNELS, 3, 4)]
    (level,), _ = encoder()(same, inputs(batch=1)[1])
    assert len(level[0].flatten(1).T.unique(dim=0)) == 12
    (level,), _ = encoder(grid_size=None)(same, inputs(batch=1)[1])
    torch.testing.assert_close(level, level[..., :1, :1].expand_as(level), atol=1e-5, rtol=1e-5)


def test_what_does_not_fit(neck):
    features, text = inputs(height=5)
    with pytest.raises(ConfigError, match="map of 5x4 cells, and model.neck.grid_size.* is 4"):
        neck(features, text)
    with pytest.raises(ConfigError, match="one map of 12 channels.* maps of 12, 12"):
        neck(features * 2, text)
    with pytest.raises(ConfigError, match="maps of 8: .*model.neck.channels"):
        neck([torch.zeros(1, 8, 2, 2)], text)
    with pytest.raises(ConfigError, match="text_channels is 768, and .* is 32 wide"):
        encoder(text_channels=768)
