"""Words trained on images that are encoded once: what is computed, and what is trained."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog

from glipv2_d2.checkpoint import release_state, save_safetensors
from glipv2_d2.checkpoint.merging import is_position
from glipv2_d2.config import get_config
from glipv2_d2.data.loading import load_records
from glipv2_d2.language import Prompt
from tools import train_words

CONFIG, QUESTIONS = "tests/support/tiny_words.py", "scenes_val_vqa_grounding"


@pytest.fixture
def untaught():
    torch.manual_seed(0)
    return instantiate(get_config(CONFIG).model).eval()


@pytest.fixture
def mapper():
    return instantiate(get_config(CONFIG).dataloader.test.mapper)


@torch.no_grad()
def test_it_is_what_the_model_answers_where_images_do_not_look(
    scenes, untaught, mapper, monkeypatch
):
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    records = load_records(QUESTIONS)
    images = train_words.encode(untaught, mapper, QUESTIONS)
    assert sum(len(image.questions) for image in images) == len(records) > 4
    first = [x for x in records if x["file_name"] == records[0]["file_name"]]
    texts = [Prompt.from_caption(x["caption"], [], kind="question") for x in first]
    text = untaught.text_features(untaught.tokenizer(texts))
    unseen = replace(text, seen_by_image=torch.zeros(len(first), dtype=torch.bool))
    padded = untaught.preprocess_image([mapper(first[0])] * len(first))
    _, words = untaught.neck(untaught.visual_features(padded), unseen)
    expected = untaught.vqa_head.logits(words, text.mask)
    # Sides and words are kept in half precision.
    found = untaught.vqa_head.logits(*train_words.fused_questions(untaught, images[:1]))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert (expected[0] - expected[1]).abs().max() > 0.02


def test_only_what_reads_the_image_is_trained(scenes, untaught, mapper, tmp_path, capsys):
    weights = save_safetensors(
        release_state(untaught, torch.float32), tmp_path / "w.safetensors", {}
    )
    output = tmp_path / "words.pth"
    options = ["--dataset", QUESTIONS, "--test", QUESTIONS, "--epochs", "6", "--batch", "2"]
    arguments = ["--config-file", CONFIG, "--weights", str(weights), "--device", "cpu"]
    assert train_words.main([*arguments, *options, "--lr", "0.01", "--output", str(output)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    losses = [float(line.split("loss ")[1].split()[0]) for line in told]
    assert len(losses) == 6 and losses[-1] < 0.7 * losses[0]
    assert "all " in told[0] and "color " in told[0]
    trained, before = torch.load(output)["model"], untaught.state_dict()
    changed = {name for name in before if not torch.equal(trained[name], before[name])}
    image_side = ("backbone", "language", "head", "mask", "caption", "dynamic_conv", "norm_v")
    assert {name for name in changed if any(part in name for part in image_side)} <= {
        name for name in before if name.startswith("vqa_head")
    }
    for block in "01":
        assert f"neck.blocks.{block}.fusion.positions.weight" in changed
        assert any(name.startswith(f"neck.blocks.{block}.text_layer") for name in changed)


def test_other_texts_are_held(scenes, untaught, mapper):
    """Training the words for questions alone changes those of names and captions; held, less."""
    images = train_words.encode(untaught, mapper, QUESTIONS)
    names = MetadataCatalog.get("scenes_val").thing_classes
    distances = {}
    for holds in (False, True):
        torch.manual_seed(0)
        student = copy.deepcopy(untaught)
        held = train_words.Held(
            copy.deepcopy(untaught.neck), names, "scenes_val_caption_grounding", seed=0
        )
        assert held.loss(student, images).item() == pytest.approx(0, abs=1e-4)
        options = {"epochs": 6, "lr": 0.01, "batch": 2, "seed": 0}
        list(train_words.train_words(student, images, held if holds else None, **options))
        distances[holds] = held.loss(student, images).item()
    assert distances[True] < 0.5 * distances[False]


def test_positions_are_new_where_the_weights_have_none(scenes, untaught, tmp_path):
    """They do not start at zero, where they would stay, though those that are held have none."""
    state = release_state(untaught, torch.float32)
    plain = {name: value for name, value in state.items() if not is_position(name)}
    weights = str(save_safetensors(plain, tmp_path / "w.safetensors", {}))
    output = tmp_path / "words.pth"
    hold = ["--hold", weights, "scenes_val", "scenes_val_caption_grounding"]
    arguments = ["--config-file", CONFIG, "--weights", weights, "--dataset", QUESTIONS]
    options = ["--epochs", "1", "--lr", "1e-6", "--output", str(output), "--device", "cpu"]
    assert train_words.main([*arguments, *hold, *options]) == 0
    for name, value in torch.load(output)["model"].items():
        if is_position(name):
            assert value.std() == pytest.approx(0.05, rel=0.1)


def test_problems_are_told_in_one_line(scenes, untaught, tmp_path, capsys):
    weights = save_safetensors(
        release_state(untaught, torch.float32), tmp_path / "w.safetensors", {}
    )
    arguments = ["--weights", str(weights), "--output", str(tmp_path / "x.pth"), "--device", "cpu"]
    boxes = ["--config-file", CONFIG, "--dataset", "scenes_val"]
    assert train_words.main([*arguments, *boxes]) == 2
    assert "'scenes_val' is not one of questions with answers" in capsys.readouterr().err
    silent = ["--config-file", "tests/support/tiny_probe.py", "--dataset", QUESTIONS]
    assert train_words.main([*arguments, *silent]) == 2
    assert "with a VLTower and a vqa_head" in capsys.readouterr().err
    assert not (tmp_path / "x.pth").exists()
    assert train_words.main(["--weights", str(weights), "--output", str(weights), *boxes]) == 2
    assert "the target is the source" in capsys.readouterr().err
