"""Exemplars are scored by the contrast's own softmax; the rest of the logits stays what it is."""

from dataclasses import replace

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.language import Prompt
from glipv2_d2.language.words import Exemplar
from glipv2_d2.modeling import blocks
from glipv2_d2.modeling.meta_arch.inference import InferencePass
from tests.support.tiny import lively, tiny_glipv2_config, tiny_input

WORDS = ("cat", "dog", "red kite")
SEEN = tuple(torch.nn.functional.normalize(torch.arange(64.0) - 20, dim=0).tolist())


@pytest.fixture(scope="module")
def contrasting_model():
    torch.manual_seed(0)
    return lively(instantiate(tiny_glipv2_config())).eval()


def logits_of(model, monkeypatch, *exemplars):
    """Of two images, each asked for a cat and one of the exemplars; and the class maps."""
    plain = Prompt.from_classes(["cat", "red bolt"])
    prompts = [[replace(plain, exemplars=(None, exemplar))] for exemplar in exemplars]
    batch = [tiny_input(names=("cat", "dog"), seed=i) for i in range(len(exemplars))]
    found = []
    detect = model.postprocessor.detect
    monkeypatch.setattr(
        model.postprocessor, "detect",
        lambda logits, *rest: found.append((logits, rest[-1])) or detect(logits, *rest),
    )  # fmt: skip
    with torch.no_grad():
        images = model.encode([{k: v for k, v in x.items() if k != "prompt"} for x in batch])
        InferencePass(model, images, prompts).detect()
    monkeypatch.undo()
    ((logits, asked),) = found
    return images, logits, [pair.class_map for pair in asked]


def exemplar(region=SEEN, weight=0.0, words=WORDS):
    return Exemplar("red bolt", tuple(torch.linspace(-1, 1, 32).tolist()), weight, region, words)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_the_log_odds_of_the_exemplar_against_the_words(contrasting_model, monkeypatch, weight):
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", 3 * 7)  # blocks that end within an image
    seen = replace(exemplar(), text_weight=weight)
    images, logits, maps = logits_of(contrasting_model, monkeypatch, seen, replace(seen, region=()))
    _, plain, _ = logits_of(contrasting_model, monkeypatch, *[replace(seen, region=())] * 2)
    tokens = maps[0].phrase_weights[1] > 0
    assert tokens.sum() == 2
    close = {"atol": 1e-5, "rtol": 0.0}  # one text for two images, or two texts
    torch.testing.assert_close(logits[1], plain[1], **close)
    torch.testing.assert_close(logits[0, :, ~tokens], plain[0, :, ~tokens], **close)
    model = contrasting_model
    contrast = model.contrast
    with torch.no_grad():
        regions = contrast.embed_regions(images.features)[0]
        names = model.name_embeddings(model, model.tokenizer.split(WORDS, size=40))
        scale = contrast.log_temperature.neg().exp()
        chances = (torch.cat((regions.new_tensor([SEEN]), names)) @ regions.T * scale).softmax(0)
    odds = torch.logit(chances[0].double()).float()
    expected = (1 - weight) * odds + weight * plain[0][:, tokens].mean(dim=1)
    for values in logits[0][:, tokens].T:
        torch.testing.assert_close(values, expected, atol=1e-4, rtol=1e-4)


def test_a_model_without_the_contrast_asks_with_the_word(contrasting_model, monkeypatch):
    expected = logits_of(contrasting_model, monkeypatch, exemplar(region=()))[1]
    assert not torch.equal(logits_of(contrasting_model, monkeypatch, exemplar())[1], expected)
    model = contrasting_model
    contrast, model.contrast = model.contrast, None
    try:
        assert torch.equal(logits_of(contrasting_model, monkeypatch, exemplar())[1], expected)
    finally:
        model.contrast = contrast
