"""Files of tuned prompts: what is in them, whom they are loaded onto, and who refuses them."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from glipv2_d2.checkpoint import (
    fingerprint,
    load_prompt,
    read_prompt_file,
    read_safetensors_metadata,
    release_state,
    save_prompt,
    save_safetensors,
)
from glipv2_d2.errors import CheckpointError, PromptError
from glipv2_d2.language import Prompt
from tests.support.tiny import tiny_model

CHUNKS = [
    Prompt.from_classes(["cat", "red kite"]),
    Prompt.from_classes(["dog"], class_ids=[2]),
]


def tuned_model(name="pets", seed=0):
    """A model that has tuned `CHUNKS`, and the prompts."""
    model = tiny_model()
    prompts = [replace(p, embedding_id=f"{name}/{i}") for i, p in enumerate(CHUNKS)]
    generator = torch.Generator().manual_seed(seed)
    for prompt in prompts:
        offsets = torch.randn(model.tokenizer.num_tokens(prompt.caption), 32, generator=generator)
        model.prompt_embeddings.add(prompt.embedding_id, offsets, trained=True)
    return model, prompts


@pytest.fixture
def saved(tmp_path):
    model, prompts = tuned_model()
    return save_prompt(
        model, tmp_path / "p.safetensors", prompts, name="pets", notes={"weights": "w"}
    )


def hidden(model, prompts):
    return model.eval().text_features(model.tokenizer(prompts)).hidden


def test_a_prompt_comes_back_as_it_was(saved):
    model, prompts = tuned_model()
    fresh = tiny_model()
    loaded = load_prompt(fresh, saved)
    assert loaded == prompts and [p.class_ids for p in loaded] == [(0, 1), (2,)]
    # Of half-precision offsets: eleven bits of numbers below 4.
    torch.testing.assert_close(hidden(fresh, loaded), hidden(model, prompts), atol=2e-3, rtol=0)
    assert not any(p.requires_grad for p in fresh.prompt_embeddings.parameters())
    assert load_prompt(fresh, saved) == loaded  # again is no fault
    assert saved.stat().st_size < 4000
    assert read_prompt_file(saved).notes == {"weights": "w"}


def test_files_in_any_order_give_the_same(saved, tmp_path):
    model, prompts = tuned_model("signs", seed=1)
    other = save_prompt(model, tmp_path / "s.safetensors", prompts, name="signs")
    states = []
    for files in ((saved, other), (other, saved)):
        model = tiny_model()
        asked = {path: load_prompt(model, path) for path in files}
        states.append(hidden(model, [*asked[saved], *asked[other], *CHUNKS]))
    assert torch.equal(*states)


def test_two_files_of_one_name(saved, tmp_path):
    model, prompts = tuned_model(seed=1)
    other = save_prompt(model, tmp_path / "o.safetensors", prompts, name="pets")
    model = tiny_model()
    load_prompt(model, saved)
    with pytest.raises(CheckpointError, match="another tuned prompt 'pets' already: load '.*o.saf"):
        load_prompt(model, other)
    assert load_prompt(model, other, "others")[0].embedding_id == "others/0"


def test_the_fingerprint_is_that_of_the_base_in_every_precision(saved, tmp_path):
    model, _ = tuned_model()
    base = fingerprint(tiny_model())
    assert fingerprint(model) == base == read_prompt_file(saved).base
    released = tiny_model(seed=1)
    released.load_state_dict(release_state(tiny_model()))
    assert fingerprint(released) == fingerprint(tiny_model().half()) == base
    for part in ("backbone", "language_backbone", "neck", "head"):
        changed = tiny_model()
        next(changed.get_submodule(part).parameters()).data.mul_(1.01)
        assert fingerprint(changed) != base, part


def test_another_base_is_refused(saved):
    other = tiny_model(seed=1)
    message = f"{fingerprint(tiny_model())} .w., and this one is {fingerprint(other)}"
    with pytest.raises(CheckpointError, match=message):
        load_prompt(other, saved)
    assert not other.prompt_embeddings.ids


def test_what_is_no_prompt_file(saved, tmp_path):
    model = tiny_model()
    with pytest.raises(CheckpointError, match="there is no prompt file '.*none.safetensors'"):
        load_prompt(model, tmp_path / "none.safetensors")
    weights = save_safetensors(release_state(model), tmp_path / "w.safetensors", {})
    with pytest.raises(CheckpointError, match="w.safetensors' is no prompt file"):
        load_prompt(model, weights)
    (tmp_path / "cut.safetensors").write_bytes(saved.read_bytes()[:300])
    with pytest.raises(CheckpointError, match="cut.safetensors' is not a whole safetensors file"):
        load_prompt(model, tmp_path / "cut.safetensors")


def rewritten(saved, **header):
    """The file with other entries in its header."""
    notes = {**read_safetensors_metadata(saved), **header}
    save_file(load_file(saved), saved, notes)
    return saved


def test_a_header_that_somebody_changed(saved):
    with pytest.raises(CheckpointError, match="p.safetensors' is damaged"):
        load_prompt(tiny_model(), rewritten(saved, prompts="[{}]"))
    longer = replace(CHUNKS[0], caption="cat. red kite.")
    fields = [vars(longer), vars(CHUNKS[1])]
    with pytest.raises(CheckpointError, match="shape .6, 32. for 'cat. red kite.'.*tokenizer"):
        load_prompt(tiny_model(), rewritten(saved, prompts=json.dumps(fields)))


def test_what_cannot_be_saved(tmp_path):
    model, prompts = tuned_model()
    with pytest.raises(CheckpointError, match="ends in .safetensors, got 'p.pth'"):
        save_prompt(model, tmp_path / "p.pth", prompts, name="pets")
    for wrong, message in ((CHUNKS, "each with an embedding_id"), ([], "holds tuned prompts")):
        with pytest.raises(PromptError, match=message):
            save_prompt(model, tmp_path / "p.safetensors", wrong, name="pets")
    with pytest.raises(PromptError, match="no tuned prompt 'x/0'"):
        stranger = replace(CHUNKS[0], embedding_id="x/0")
        save_prompt(model, tmp_path / "p.safetensors", [stranger], name="pets")
    assert not list(tmp_path.iterdir())
