"""A model for one vocabulary as one file: found, trained and refused like the model itself."""

from dataclasses import replace

import pytest
import torch
from detectron2.config import instantiate
from safetensors.torch import load_file, save_file

from glipv2_d2.checkpoint import (
    build_for_weights,
    freeze_vocabulary,
    load_weights,
    release_state,
    weight_names,
)
from glipv2_d2.errors import CheckpointError, PromptError
from glipv2_d2.language import Prompt
from tests.support.tiny import (
    detect,
    lively,
    tiny_config,
    tiny_input,
    tiny_model,
    tiny_question,
    tiny_tasks_config,
    tiny_unfused_model,
)

NAMES = ["cat", "red kite", "traffic light"]


@pytest.fixture(scope="module")
def whole_config():
    """Masks, answers and captions; two names in a prompt."""
    return tiny_tasks_config(chunk_size=2)


@pytest.fixture(scope="module")
def whole_model(whole_config):
    torch.manual_seed(0)
    return lively(instantiate(whole_config)).eval()


@pytest.fixture(scope="module")
def frozen_file(whole_model, tmp_path_factory):
    return freeze_vocabulary(
        whole_model, NAMES, tmp_path_factory.mktemp("frozen") / "pets.safetensors"
    )


def loaded(config, file):
    """The model of a file, as predictor and trainer make it."""
    model = build_for_weights(config, file)
    load_weights(model, file)
    return model.eval()


@pytest.fixture
def frozen_model(whole_config, frozen_file):
    return loaded(whole_config, frozen_file)


def assert_equal(found, expected):
    assert len(expected) and list(found.pred_phrases) == list(expected.pred_phrases)
    for name in ("scores", "pred_classes", "pred_masks"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_it_finds_what_its_model_finds_bit_by_bit(whole_model, frozen_model):
    prompts = whole_model.tokenizer.split(NAMES, size=2)
    (expected,) = detect(whole_model, tiny_question(prompts))
    for prompt in (None, frozen_model.tokenizer.split(NAMES), prompts):
        (found,) = detect(frozen_model, tiny_question(prompt))
        assert_equal(found, expected)


def test_a_part_of_the_names(whole_model, frozen_model):
    whole = whole_model.tokenizer.split(NAMES, size=2)
    part = [replace(whole[0], spans=whole[0].spans[1:], names=("red kite",), class_ids=(0,))]
    (expected,) = detect(whole_model, tiny_question(part))
    (found,) = detect(frozen_model, tiny_question(frozen_model.tokenizer.split(["red kite"])))
    assert_equal(found, expected)


def test_what_the_file_has_not(whole_model, frozen_file):
    names = {name.partition(".")[0] for name in weight_names(frozen_file)}
    assert names == {
        "backbone", "neck", "head", "mask_head", "contrast", "vqa_head", "language_backbone"
    }  # fmt: skip
    assert frozen_file.stat().st_size < 0.9 * sum(
        value.nbytes for name, value in release_state(whole_model, torch.float32).items()
        if name.partition(".")[0] in names
    )  # fmt: skip


def test_weights_in_half_precision_stay_so(tmp_path):
    halves = tiny_model()
    halves.load_state_dict({k: v.half() for k, v in halves.state_dict().items()})
    stored = load_file(freeze_vocabulary(halves, NAMES, tmp_path / "half.safetensors"))
    kinds = {name: value.dtype for name, value in stored.items()}
    assert kinds.pop("language_backbone.vocabulary") == torch.uint8
    assert kinds.pop("language_backbone.words") == torch.float32
    assert set(kinds.values()) == {torch.float16}


def test_its_words_are_trained_and_saved(frozen_file, tmp_path):
    config = tiny_tasks_config(chunk_size=2)
    frozen = loaded(config, frozen_file).train()
    frozen.mask_head = config.mask_head = None
    samples = tiny_input(classes=(0, 1)), tiny_input(boxes=(), classes=())
    prompts = frozen.tokenizer.split(NAMES)
    inputs = [{**sample, "prompt": p} for sample, p in zip(samples, prompts, strict=True)]
    sum(frozen(inputs).values()).backward()
    words = frozen.language_backbone.words
    assert words.grad.abs().sum(1).gt(0).all()
    with torch.no_grad():
        words.add_(words.grad)
    path = tmp_path / "model_final.pth"
    torch.save({"model": frozen.state_dict()}, path)
    again = loaded(config, path)
    assert torch.equal(again.language_backbone.words, words)
    assert again.tokenizer.names == NAMES


def test_a_tuned_prompt_is_folded_into_the_words(tmp_path):
    model, prompt = lively(tiny_model()).eval(), Prompt.from_classes(["cat"])
    offsets = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    model.prompt_embeddings.add("pets/0", offsets)
    tuned = replace(prompt, embedding_id="pets/0")
    frozen = loaded(
        tiny_config(), freeze_vocabulary(model, [tuned], tmp_path / "tuned.safetensors")
    )
    (found,) = detect(frozen, tiny_question(None))
    (of_tuned,), (plain,) = (detect(model, tiny_question(p)) for p in (tuned, prompt))
    assert torch.equal(found.scores, of_tuned.scores)
    assert not torch.equal(found.scores[:5], plain.scores[:5])


def test_a_tower_without_fusion_reads_its_own_field(tmp_path):
    model = tiny_unfused_model().eval()
    model.language_backbone.num_layers_averaged = 2
    path = freeze_vocabulary(model, NAMES, tmp_path / "x.safetensors")
    words = load_file(path)["language_backbone.words"]
    tokens = model.tokenizer(model.tokenizer.split(NAMES))
    assert torch.equal(words, model.language_backbone(tokens).embedded[0])


def test_files_and_prompts_that_are_refused(
    whole_model, whole_config, frozen_model, frozen_file, tmp_path
):
    with pytest.raises(PromptError, match="'zebra' is not in the fixed vocabulary"):
        frozen_model([tiny_question(Prompt.from_classes(["zebra"]))])
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors, got 'x\.pth'"):
        freeze_vocabulary(whole_model, NAMES, tmp_path / "x.pth")
    state = load_file(frozen_file)
    state["language_backbone.vocabulary"] = state["language_backbone.vocabulary"][:-5].clone()
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="fixed vocabulary in .*x.safetensors' is damaged"):
        build_for_weights(whole_config, tmp_path / "x.safetensors")
