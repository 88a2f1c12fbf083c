"""The single-stream neck: BERT's layers over image and words, and who sees whom."""

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.config import get_config
from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.fusion import SingleStreamEncoder
from glipv2_d2.modeling.generation import Decoding, search, write_captions
from glipv2_d2.modeling.text import BertLanguageBackbone, TextFeatures
from glipv2_d2.modeling.text.attention import KeyValueCache
from glipv2_d2.modeling.text.bert import bert_layer
from tests.support.tiny import tiny_bert_folder, tiny_config
from tests.support.tiny_captions import tiny_features
from tools.benchmark.captions import Recomputed

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
    actual, visible = embedded, tokens.mask[:, None]
    for layer in neck.eval().layers:
        actual = bert_layer(layer, actual, visible)
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
def test_a_caption_read_word_by_word(neck):
    """Two texts of each image; both sides are computed once, and give what they give together."""
    features, _ = inputs()
    hidden = torch.randn(4, TOKENS, TEXT)
    mask = torch.ones(4, TOKENS, dtype=torch.bool)
    texts = TextFeatures(hidden, hidden, mask, causal=mask[:, 0], seen_by_image=~mask[:, 0])
    _, words = neck([features[0].repeat_interleave(2, 0)], texts)
    images, cache = neck.read_images(features), KeyValueCache()
    for start, end in ((0, 2), (2, 3), (3, TOKENS)):
        read = neck.read_on(hidden[:, start:end], images, cache)
        # Two layers in float32, over sequences of other lengths.
        torch.testing.assert_close(read, words[:, start:end], atol=1e-5, rtol=1e-5)
    assert cache.length == TOKENS and images.length == 12


@torch.no_grad()
@pytest.mark.parametrize("beam_size", [1, 3])
def test_captions_are_written_as_without_a_cache(beam_size):
    """By a whole model, whose language backbone has no layers to count the words."""
    recipe = get_config("captioning/clip_vil_caption.py").model
    config = tiny_config()
    config.backbone = config.backbone.bottom_up
    config.backbone.out_features = ("res5",)
    config.language_backbone.num_layers = 0
    for key in ("_target_", "neck", "head", "anchor_generator", "caption_head"):
        config[key] = recipe[key]
    config.neck.update(channels=128, text_channels=TEXT)
    torch.manual_seed(0)
    model = instantiate(config).eval()
    for parameter in (*model.neck.layers.parameters(), model.language_backbone.word_embedding):
        torch.nn.init.normal_(parameter, std=0.5)
    features = tiny_features(model, 2)
    decoding = Decoding(beam_size=beam_size, max_length=6, min_length=4)
    written = write_captions(model, features, [Prompt.unwritten()] * 2, decoding)
    tokenizer = model.tokenizer
    *start, end = tokenizer.encode("").ids
    for i in range(2):
        words = Recomputed(model, [level[i : i + 1] for level in features])
        ((tokens, score),) = search(words, torch.tensor([start]), end, tokenizer.writable, decoding)
        assert written[i].caption == tokenizer.decode(start + tokens)
        # Two layers of float32, attended in another order.
        assert written[i].score == pytest.approx(score, abs=1e-4)


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
