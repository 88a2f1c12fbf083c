"""Language backbones and tokenizers by their names in the registry."""

import pytest

from glipv2_d2.language import PromptTokenizer
from glipv2_d2.language.class_tokenizer import ParallelClassTokenizer
from glipv2_d2.modeling.text import build, build_language_backbone, build_tokenizer
from tests.support.tiny import tiny_bert_folder


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [("BertLanguageBackbone", PromptTokenizer), ("ParallelClassBert", ParallelClassTokenizer)],
)
def test_what_is_registered_is_built_by_name(name, tokenizer):
    folder = tiny_bert_folder()
    backbone = build_language_backbone(name, model=folder, pretrained=False, max_tokens=20)
    assert type(backbone) is build.LANGUAGE_BACKBONE_REGISTRY.get(name)
    assert type(backbone.tokenizer) is tokenizer and backbone.out_channels == 32
    alone = build_tokenizer(name, folder, 20)  # without the encoder
    assert type(alone) is tokenizer and alone.max_tokens == backbone.tokenizer.max_tokens == 20


def test_unknown_names():
    for make in (build_language_backbone, lambda name: build_tokenizer(name, "minilm", 20)):
        with pytest.raises(KeyError, match="NoSuchEncoder"):
            make("NoSuchEncoder")
