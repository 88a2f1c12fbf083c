"""Offsets of tuned prompts: what they are added to, how they are trained, how they are kept."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from glipv2_d2.checkpoint import check_weights, load_weights
from glipv2_d2.errors import CheckpointError, PromptError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.text import PromptEmbeddings
from tests.support.tiny import lively, tiny_input, tiny_model, tiny_question, tiny_tasks_config

PLAIN = Prompt.from_classes(["cat", "red kite"])
PETS = replace(PLAIN, embedding_id="pets v1.2/0")
SIGNS = replace(Prompt.parse("a [stop sign] on a [pole]"), embedding_id="signs/0")


def offsets(model, prompt, seed):
    """Offsets as large as the words themselves."""
    length = int(model.tokenizer([prompt]).mask.sum())
    return torch.randn(length, 32, generator=torch.Generator().manual_seed(seed))


def with_prompts(model, *prompts, trained=False):
    for seed, prompt in enumerate(prompts):
        model.prompt_embeddings.add(
            prompt.embedding_id, offsets(model, prompt, seed), trained=trained
        )
    return model


@pytest.fixture(scope="module")
def prompted():
    """Do not change it."""
    return with_prompts(lively(tiny_model()), PETS, SIGNS).eval()


def features(model, *prompts):
    return model.text_features(model.tokenizer(list(prompts)))


def test_offsets_are_added_to_the_words_of_their_prompts_alone(prompted):
    tokens = prompted.tokenizer([PETS, PLAIN, SIGNS])
    base, tuned = prompted.language_backbone(tokens), prompted.text_features(tokens)
    for field in ("hidden", "embedded"):
        added = getattr(tuned, field) - getattr(base, field)
        for row, prompt in enumerate((PETS, None, SIGNS)):
            expected = torch.zeros_like(added[row])
            if prompt is not None:
                own = prompted.prompt_embeddings[prompt.embedding_id]
                expected[: len(own)] = own
            words = tokens.mask[row]  # what stands at padding is arbitrary
            torch.testing.assert_close(added[row][words], expected[words], atol=1e-5, rtol=0)


@torch.no_grad()
def test_several_prompts_in_a_batch_give_what_each_gives_alone(prompted):
    asked = (PLAIN, PETS, SIGNS)
    together = [output["instances"] for output in prompted([tiny_question(p) for p in asked])]
    for prompt, found in zip(asked, together):
        (alone,) = prompted([tiny_question(prompt)])
        torch.testing.assert_close(found.scores, alone["instances"].scores, atol=1e-5, rtol=0)
    # What was encoded beside a longer text differs in its last bits.
    prompted.text_cache.clear()
    base = lively(tiny_model()).eval()([tiny_question(PLAIN)])[0]["instances"]
    assert torch.equal(base.scores, prompted([tiny_question(PLAIN)])[0]["instances"].scores)
    assert not torch.allclose(together[0].scores[:20], together[1].scores[:20], atol=1e-3)


def test_what_is_learned_is_seen_at_once_and_the_cache_keeps_the_words_alone():
    model = with_prompts(tiny_model(), PETS).eval()
    before = features(model, PETS).hidden
    features(model, PLAIN)
    assert len(model.text_cache) == 1  # one text, tuned or not
    model.prompt_embeddings[PETS.embedding_id].data += 1  # as an average is swapped in
    torch.testing.assert_close(features(model, PETS).hidden, before + 1)


@pytest.mark.parametrize("order", [1, -1])
def test_a_state_dict_adds_what_the_model_does_not_have(prompted, order):
    state = dict(list(prompted.state_dict().items())[::order])
    other = tiny_model(seed=1)
    other.load_state_dict(state)
    assert set(other.prompt_embeddings.ids) == {"pets v1.2/0", "signs/0"}
    for prompt in (PETS, SIGNS):
        own = other.prompt_embeddings[prompt.embedding_id]
        assert torch.equal(own, prompted.prompt_embeddings[prompt.embedding_id])
        assert not own.requires_grad  # what is trained is decided before weights are loaded
    for copied in (copy.deepcopy(prompted), pickle.loads(pickle.dumps(prompted))):
        assert torch.equal(features(copied, SIGNS).hidden, features(prompted, SIGNS).hidden)


def test_files_with_and_without_tuned_prompts_fit_the_model(prompted, tmp_path):
    base, tuned = tiny_model(), tmp_path / "tuned.pth"
    torch.save({"model": prompted.state_dict()}, tuned)
    load_weights(base, tuned)  # strict
    assert base.prompt_embeddings.ids == prompted.prompt_embeddings.ids
    check_weights(base, tiny_model().state_dict(), source="base", strict=True)
    other = {**prompted.state_dict(), "prompt_embeddings.offsets/signs/0": torch.zeros(2, 32)}
    with pytest.raises(CheckpointError, match="differ in shape .prompt_embeddings.offsets/signs"):
        check_weights(base, other, source="other", strict=True)


def test_every_trained_prompt_gets_a_gradient_in_every_batch():
    """Else several processes would wait for it."""
    model = with_prompts(tiny_model(), PETS, SIGNS, trained=True)
    model.requires_grad_(False).prompt_embeddings.requires_grad_(True)
    made = tiny_input()
    losses = model([{**made, "prompt": PETS, "instances": made["instances"][:1]}])
    sum(losses.values()).backward()
    gradients = [model.prompt_embeddings[p.embedding_id].grad for p in (PETS, SIGNS)]
    assert gradients[0].abs().sum(dim=1).min() > 0 and gradients[1].abs().max() == 0
    assert all(p.grad is None for n, p in model.named_parameters() if "prompt" not in n)


def test_offsets_for_every_prompt_leave_captions_as_they_are():
    from detectron2.config import instantiate

    torch.manual_seed(0)
    model = instantiate(tiny_tasks_config()).eval()
    tokens = model.tokenizer([PLAIN, Prompt.unwritten("a cat")])
    before = model.text_features(tokens).hidden
    model.prompt_embeddings.load_state_dict({"default": torch.ones(1000, 32)})
    added = (model.text_features(tokens).hidden - before)[tokens.mask]
    torch.testing.assert_close(added[: int(tokens.mask[0].sum())], torch.ones(6, 32))
    assert added[6:].abs().max() == 0


def test_prompts_that_the_model_does_not_have_or_has_otherwise(prompted):
    with pytest.raises(PromptError, match="no tuned prompt 'cars/0' .it has: 'pets v1.2/0', 'sig"):
        features(prompted, replace(PLAIN, embedding_id="cars/0"))
    with pytest.raises(PromptError, match="'signs/0' has 8 tokens, and the prompt .* has 6"):
        features(prompted, replace(PLAIN, embedding_id="signs/0"))
    with pytest.raises(PromptError, match="has a tuned prompt 'signs/0' already"):
        prompted.prompt_embeddings.add("signs/0", torch.zeros(8, 32))
    with pytest.raises(PromptError, match="caption 'a' carries .*'x/0'.*leave it out"):
        replace(Prompt.unwritten("a"), embedding_id="x/0")


def test_without_tuned_prompts_nothing_is_added():
    empty, text = PromptEmbeddings(), object()
    assert empty(text, None) is text and not empty.state_dict()
