"""A shortlist of names: which names an image is asked for, and that nothing else changes."""

import copy
from dataclasses import replace

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances

from glipv2_d2.engine.asked import to_tell_presence
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.errors import ConfigError, PromptError, UsageError
from glipv2_d2.language import Prompt
from glipv2_d2.language.words import NEGATIVE, Exemplar
from glipv2_d2.modeling.meta_arch.inference import prompts_to_ask
from glipv2_d2.modeling.shortlist import Shortlist, shortlisted
from tests.support.tiny import (
    detect,
    lively,
    tiny_glipv2_config,
    tiny_model,
    tiny_question,
    tiny_tasks_config,
)

NAMES = ["cat", "dog", "red kite", "bus", "shop window", "tree", "house", "blue bird"]


@pytest.fixture(scope="module")
def contrast_model():
    torch.manual_seed(0)
    return lively(instantiate(tiny_glipv2_config())).eval()


def chunks(size=3, names=NAMES, ids=None):
    return Prompt.split(names, size, ids)


def chosen(model, prompts, size=3, pinned=(), seed=0, **options):
    """The prompts of an image with its shortlist."""
    images = model.encode([tiny_question(None, seed=seed)])
    (asked,) = shortlisted(model, images, [prompts], [Shortlist(size, pinned)], **options)
    return asked


def names_of(prompts):
    return [name for prompt in prompts for name in prompt.names]


@torch.no_grad()
def ranking_by_hand(model, prompts, question):
    """Names, best first, of the positions that see the image: one position and phrase at a time."""
    contrast, images = model.contrast, model.encode([question])
    (height, width), best = images.sizes[0], {}
    for prompt in prompts:
        tokens = model.tokenizer([prompt])
        hidden = model.language_backbone(tokens).hidden[0]
        for name, own in zip(prompt.names, tokens.positive_maps[0]):
            words = contrast.word_projection(hidden[own])
            word = (words / words.norm(dim=1, keepdim=True)).mean(dim=0)
            for level, stride in zip(images.features, model.anchor_generator.strides):
                seen = level[0, :, : -(-height // stride), : -(-width // stride)].flatten(1).T
                region = contrast.region_projection(seen)
                alike = torch.cosine_similarity(region, word[None]).max().item()
                best[name] = max(alike, best.get(name, -2))
    return sorted(best, key=lambda name: -best[name])


@pytest.mark.parametrize("seed", range(3))
def test_the_names_that_some_position_is_most_like_in_their_order(contrast_model, seed):
    question = tiny_question(None, seed=seed, height=64, width=72)  # padded to 96
    ranking = ranking_by_hand(contrast_model, chunks(), question)
    images = contrast_model.encode([question])
    for size in (1, 3, 7):
        (asked,) = shortlisted(contrast_model, images, [chunks()], [Shortlist(size)])
        assert names_of(asked) == [name for name in NAMES if name in ranking[:size]]
        assert [i for p in asked for i in p.class_ids] == [NAMES.index(n) for n in names_of(asked)]


@torch.no_grad()
def test_padding_names_nothing(contrast_model):
    """Random features beyond the 9 columns of an image of 72 pixels change nothing; one column
    more does."""
    images = contrast_model.encode([tiny_question(None, height=64, width=72)])

    def best(seed, first_column):
        finest = images.features[0].clone()
        padding = finest[..., first_column:]
        padding.copy_(torch.randn(padding.shape, generator=torch.Generator().manual_seed(seed)))
        planted = images._replace(features=[finest, *images.features[1:]])
        (asked,) = shortlisted(contrast_model, planted, [chunks(1)], [Shortlist(1)])
        return asked[0].names

    assert len({best(seed, 9) for seed in range(8)}) == 1
    assert len({best(seed, 8) for seed in range(8)}) > 1


def test_names_are_embedded_anew_with_other_offsets_of_their_words(contrast_model):
    """Those that a prompt-tuned model adds to every prompt."""
    model = copy.deepcopy(contrast_model)
    plain = model.name_embeddings(model, chunks())
    assert not plain.requires_grad  # it is kept, and would keep its graph
    channels = model.language_backbone.out_channels
    offsets = torch.randn(4, channels, generator=torch.Generator().manual_seed(0))
    model.load_state_dict({"prompt_embeddings.default": offsets}, strict=False)
    found = model.name_embeddings(model, chunks())
    assert not torch.allclose(found, plain, atol=1e-2)
    assert torch.equal(found, copy.deepcopy(model).name_embeddings(model, chunks()))


def test_a_shortlist_of_all_names_changes_nothing(contrast_model):
    plain = tiny_question(chunks())
    expected, found = detect(contrast_model, plain, {**plain, "shortlist": Shortlist(len(NAMES))})
    assert len(expected) > 20
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)


def test_what_is_found_is_what_the_shortlist_as_a_prompt_finds(contrast_model):
    """Of each image its own, whatever else is in the batch."""
    inputs = [tiny_question(chunks(), seed=seed) for seed in range(3)]
    short = [{**x, "shortlist": Shortlist(3)} for x in inputs]
    by_hand = [
        {**x, "prompt": chosen(contrast_model, chunks(), seed=i)} for i, x in enumerate(inputs)
    ]
    assert len({tuple(names_of(x["prompt"])) for x in by_hand}) > 1  # or the test tells nothing
    together = detect(contrast_model, *short[:2], inputs[2])
    for found, expected in zip(together, detect(contrast_model, *by_hand[:2], inputs[2])):
        assert len(expected) > 20
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_classes, expected.pred_classes)
        assert list(found.pred_phrases) == [NAMES[i] for i in found.pred_classes.tolist()]


def test_a_pinned_name_takes_the_place_of_the_last(contrast_model):
    best = names_of(chosen(contrast_model, chunks(), 3))
    absent = [name for name in NAMES if name not in best]
    pinned = names_of(chosen(contrast_model, chunks(), 3, (absent[0].upper(),)))
    assert len(pinned) == 3 and absent[0] in pinned and len({*pinned} & {*best}) == 2
    assert names_of(chosen(contrast_model, chunks(), 1, absent[:3])) == absent[:3]


def test_the_words_of_a_class_stay_together(contrast_model):
    """Two names of class 0, of which the second is the best of all; each is read alone."""
    (best,) = names_of(chosen(contrast_model, chunks(1), 1))
    others = [name for name in NAMES if name != best]
    prompts = chunks(1, [*others, best], [*range(len(others)), 0])
    asked = chosen(contrast_model, prompts, 1)
    assert names_of(asked) == [others[0], best] and {*asked[0].class_ids} == {0}


def test_prompts_of_one_length(contrast_model, monkeypatch):
    monkeypatch.setattr(contrast_model, "chunk_size", 4)
    assert [len(prompt) for prompt in chosen(contrast_model, chunks(), 5)] == [3, 2]


def test_what_is_no_list_of_names_stays_and_so_do_negatives(contrast_model):
    words = Exemplar("bolt", tuple(torch.linspace(-1, 1, 32).tolist()))
    ids = [*range(6), NEGATIVE, NEGATIVE]
    names, sentence = Prompt.from_classes(NAMES, ids), Prompt.parse("a [cat] beside a [tree]")
    tuned = replace(Prompt.from_classes(["stop", "exit"]), embedding_id="signs/0")
    suffix = Prompt("fish, in the sea", "detection", (((0, 4),),), ("fish",), (9,))
    names = replace(names, exemplars=(*[None] * 6, None, words))
    asked = chosen(contrast_model, [sentence, names, tuned, suffix], 2)
    assert asked[1:] == [sentence, tuned, suffix]
    assert len(asked[0]) == 4 and asked[0].names[2:] == ("house", "bolt")
    assert asked[0].class_ids[2:] == (NEGATIVE, NEGATIVE)
    assert asked[0].exemplars == (None, None, None, words)


def test_the_vector_of_an_exemplar_is_ranked_and_not_its_name(contrast_model):
    """One that projects to where a region of the image is."""
    images = contrast_model.encode([tiny_question(None)])
    region = contrast_model.contrast.embed_regions(images.features)[0, 5].detach()
    generator = torch.Generator().manual_seed(0)
    word = contrast_model.contrast.word_like(region, torch.randn(200, 32, generator=generator))
    prompt = Prompt.from_classes(NAMES)
    (last,) = {*NAMES} - {*names_of(chosen(contrast_model, [prompt], 7))}
    seen = [Exemplar(n, tuple(word.tolist())) if n == last else None for n in NAMES]
    (asked,) = chosen(contrast_model, [replace(prompt, exemplars=tuple(seen))], 1)
    assert asked.names == (last,) and asked.exemplars == (seen[NAMES.index(last)],)


def test_a_vocabulary_is_embedded_once_until_the_weights_change(contrast_model, monkeypatch):
    asked = []
    encode = contrast_model.text_features
    monkeypatch.setattr(
        contrast_model, "text_features", lambda tokens: asked.append(len(tokens)) or encode(tokens)
    )
    vocabulary = chunks(3, [f"{name} of mine" for name in NAMES])
    first = names_of(chosen(contrast_model, vocabulary))
    assert sum(asked) == 3
    assert (
        names_of(chosen(contrast_model, chunks(3, [f"{name} of mine" for name in NAMES]))) == first
    )
    assert sum(asked) == 3
    projection = contrast_model.contrast.word_projection
    kept = projection.weight.detach().clone()
    with torch.no_grad():
        projection.weight.neg_()
        assert names_of(chosen(contrast_model, vocabulary)) != first
        projection.weight.copy_(kept)
    assert names_of(chosen(contrast_model, vocabulary)) == first


def test_the_classes_of_known_boxes_are_asked(contrast_model):
    torch.manual_seed(0)
    model = instantiate(tiny_tasks_config()).eval()
    best = names_of(chosen(model, chunks(), 2))
    absent = [i for i, name in enumerate(NAMES) if name not in best]
    known = Instances((64, 96), pred_boxes=Boxes([[4, 4, 30, 30]] * len(absent)))
    known.pred_classes = torch.tensor(absent)
    question = tiny_question(chunks(), shortlist=Shortlist(2))
    with torch.no_grad():
        (found,) = model.inference([question], [known], do_postprocess=False)
    assert found.pred_classes.tolist() == absent and found.has("pred_masks")


def test_a_predictor_with_a_shortlist(contrast_model):
    predictor = GroundingPredictor(contrast_model, min_size=64, max_size=96, shortlist=2)
    image = tiny_question(None)["image"]
    (found,) = predictor(image, NAMES)
    assert len(set(found.pred_phrases)) == 2
    assert predictor.set_image(image).predict(NAMES).pred_phrases == found.pred_phrases
    predictor.shortlist = None
    assert len(set(predictor(image, NAMES)[0].pred_phrases)) > 2


def test_presence_is_told_of_all_names(contrast_model, monkeypatch):
    predictor = GroundingPredictor(contrast_model, shortlist=2)
    monkeypatch.setattr(contrast_model, "heads_of", lambda role: ["a head"])
    assert to_tell_presence(predictor, NAMES).options["shortlist"] is None


def test_bad_input(contrast_model):
    for size in (0, 2.5, True, "8"):
        with pytest.raises(UsageError, match="whole number of names from 1, got"):
            Shortlist(size)
    with pytest.raises(UsageError, match="pinned must be a list of names, got 'cat'"):
        Shortlist(3, "cat")
    assert Shortlist.of_settings({"shortlist": 3, "pinned": None}) == Shortlist(3)
    with pytest.raises(ConfigError, match="config with model.contrast"):
        GroundingPredictor(tiny_model(), shortlist=8)
    question = tiny_question(chunks(), shortlist=Shortlist(3, ["cta"]))
    with pytest.raises(PromptError, match="'cta' is pinned .* none of the names"):
        prompts_to_ask(contrast_model, [question])
    question["prompt"] = Prompt.parse("a [dog]")  # to which a shortlist makes no difference
    assert prompts_to_ask(contrast_model, [question]) == [[question["prompt"]]]
    with pytest.raises(ConfigError, match="config with model.contrast"):
        prompts_to_ask(tiny_model(), [question])
