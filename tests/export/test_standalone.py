"""The program in every export: what the predictor finds, without Detectron2 and this package."""

import ast
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from glipv2_d2 import Prompt
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.export import export_glip, standalone
from glipv2_d2.export.standalone import ExportedModel
from glipv2_d2.modeling.generation import Decoding
from tests.support.exported_model import INFERENCE, NAMES, assert_same_detections, image


@pytest.fixture
def own_photo(tmp_path):
    """A file, and its pixels in the predictor's order."""
    pixels = image(60, 83, seed=1)
    Image.fromarray(pixels[..., ::-1]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", pixels


@pytest.fixture(scope="module")
def alone(exported_telling):
    return ExportedModel(exported_telling)


@pytest.fixture
def telling_predictor(telling):
    return GroundingPredictor(telling, **INFERENCE)


def assert_found(found, expected):
    assert len(found) == len(expected) > 3
    torch.testing.assert_close(torch.tensor([x.score for x in found]), expected.scores)
    # Equal scores may come in any order; one box may have several phrases.
    distance = torch.tensor([x.box for x in found])[:, None] - expected.pred_boxes.tensor
    other = [[x.phrase != phrase for phrase in expected.pred_phrases] for x in found]
    distance = distance.abs().amax(dim=2) + 1e3 * torch.tensor(other)
    assert distance.amin(dim=1).max() < 1e-2
    return distance.argmin(dim=1)


def test_it_imports_nothing_of_ours_and_is_a_part_of_the_export(exported_telling):
    source = (exported_telling / "glip_runtime.py").read_text()
    trees = ast.walk(ast.parse(source))
    imports = {ast.unparse(n) for n in trees if isinstance(n, ast.Import | ast.ImportFrom)}
    modules = {text.split()[1].split(".")[0] for text in imports}
    assert modules - set(sys.stdlib_module_names) - {"__future__"} == {
        "PIL", "numpy", "onnxruntime", "openvino", "safetensors", "tokenizers", "torch",
        "torchvision",
    }  # fmt: skip


def test_boxes_and_masks(alone, telling_predictor, own_photo, monkeypatch):
    file, pixels = own_photo
    monkeypatch.setitem(alone.about, "chunk_size", 2)
    monkeypatch.setattr(telling_predictor.model, "chunk_size", 2)
    (expected,) = telling_predictor(pixels, NAMES)
    found = alone.detect(file, NAMES)
    nearest = assert_found(found, expected)
    agree = [np.mean(x.mask == expected.pred_masks[i].numpy()) for x, i in zip(found, nearest)]
    assert min(agree) > 0.999 and found[0].mask.shape == (60, 83)


def test_one_box_of_each_object(alone, telling_predictor, own_photo, monkeypatch):
    monkeypatch.setitem(alone.about["inference"], "merge_iou", 0.3)
    (expected,) = telling_predictor(own_photo[1], NAMES, merge_iou=0.3)
    assert len(assert_found(alone.detect(own_photo[0], NAMES), expected)) < 50


VOCABULARY = [*NAMES, "blue car", "dog", "tall tree", "person", "cup", "zebra"]


def test_a_shortlist(alone, telling_predictor, loaded_telling, own_photo, monkeypatch):
    """With and without this package an export asks for the names that its model would ask for."""
    file, pixels = own_photo
    with_files = GroundingPredictor(loaded_telling, **INFERENCE)
    monkeypatch.setitem(alone.about, "chunk_size", 3)
    for some in (telling_predictor.model, loaded_telling):
        monkeypatch.setattr(some, "chunk_size", 3)
    chosen = []
    for size, pinned in ((4, []), (2, ["cup", "zebra"]), (3, ["dog"])):
        monkeypatch.setitem(alone.about["inference"], "pinned", pinned)
        for some in (telling_predictor, with_files):
            some.shortlist, some.pinned = size, pinned
        (expected,) = telling_predictor(pixels, VOCABULARY)
        assert_same_detections(with_files(pixels, VOCABULARY)[0], expected)
        assert_found(alone.detect(file, VOCABULARY, shortlist=size), expected)
        chosen.append(sorted(set(expected.pred_phrases)))
    assert chosen[1] == ["cup", "zebra"] and "dog" in chosen[2] and len(chosen[0]) == 4
    monkeypatch.setitem(alone.about["inference"], "shortlist", 3)
    again = alone.detect(file, VOCABULARY)
    assert sorted({x.phrase for x in again}) == chosen[2]
    with pytest.raises(ValueError, match="'dog' is pinned to the shortlist, and is not asked for"):
        alone.detect(file, ["cat"])
    with pytest.raises(ValueError, match="a whole number of names from 1, got 0"):
        alone.detect(file, VOCABULARY, shortlist=0)


@pytest.mark.parametrize(
    "question", ["is it red?", " is the [car] red? ", "is it red?[MASK]", "is [SEP] red?"]
)
def test_answers(alone, telling_predictor, own_photo, question):
    answers = alone.answer(own_photo[0], question)
    expected = telling_predictor.answer(own_photo[1], question)[0].answers
    assert [answer for answer, _ in answers] == [answer for answer, _ in expected]
    assert [p for _, p in answers] == pytest.approx([p for _, p in expected], abs=1e-5)


def test_no_question(alone, own_photo):
    with pytest.raises(ValueError, match="the question is empty"):
        alone.answer(own_photo[0], " [MASK]")


@pytest.mark.parametrize("least", [1, 5])
def test_captions(alone, telling_predictor, own_photo, monkeypatch, least):
    monkeypatch.setitem(alone.about["decoding"], "min_length", least)
    greedy = Decoding(beam_size=1, min_length=least, max_length=5)
    expected = telling_predictor.caption(own_photo[1], decoding=greedy)[0].caption
    assert alone.caption(own_photo[0]).replace(" ", "") == expected.replace(" ", "")


def test_photos_with_alpha_or_many_bits(alone, telling_predictor, own_photo):
    """What is transparent is white, as the predictor has it; 16 bits are not read as 8."""
    clear = Image.open(own_photo[0]).convert("RGBA")
    clear.paste((9, 9, 9, 0), (0, 0, 40, 60))
    expected = telling_predictor.answer(clear, "is it red?")[0].answers
    answers = alone.answer(clear, "is it red?")
    assert [p for _, p in answers] == pytest.approx([p for _, p in expected], abs=1e-5)
    deep = Image.fromarray(own_photo[1][..., 0].astype(np.uint16) * 257)
    with pytest.raises(ValueError, match="of mode I;16, and has more than 8 bits: scale it"):
        alone.detect(deep, NAMES)


def test_fixed_prompts(source_model, traced, program, own_photo, tmp_path, monkeypatch, capsys):
    prompts = source_model.tokenizer.split(NAMES, size=2)
    folder = export_glip(source_model, tmp_path / "x", prompts=prompts, inference=INFERENCE)
    graph = program.module()
    run = lambda *arrays: [x.numpy() for x in graph(*map(torch.from_numpy, arrays))]  # noqa: E731
    monkeypatch.setattr(standalone, "open_graph", lambda path: torch.no_grad()(run))
    fixed, predictor = ExportedModel(folder), GroundingPredictor(source_model, **INFERENCE)
    monkeypatch.setattr(source_model, "chunk_size", 2)
    assert_found(fixed.detect(own_photo[0]), predictor(own_photo[1], NAMES)[0])
    (part,) = predictor(own_photo[1], [Prompt.from_classes(["traffic light"])])
    assert_found(fixed.detect(own_photo[0], ["traffic_light"]), part)
    with pytest.raises(ValueError, match="'zebra' is none of cat, red kite, traffic light"):
        fixed.detect(own_photo[0], ["zebra"])
    with pytest.raises(ValueError, match="for fixed prompts and reads no other text"):
        fixed.answer(own_photo[0], "is it red?")
    monkeypatch.setattr(standalone, "ExportedModel", lambda: fixed)
    assert standalone.main([str(own_photo[0]), "cat, red kite"]) == 0
    assert "cat: 0." in capsys.readouterr().out


def test_what_an_export_cannot_do(exported, own_photo):
    alone = ExportedModel(exported)
    with pytest.raises(ValueError, match="no names are given"):
        alone.detect(own_photo[0])
    with pytest.raises(ValueError, match="of the format torch runs in fp32, not in 'bf16'"):
        ExportedModel(exported, precision="bf16")
    with pytest.raises(ValueError, match=r"has no reading\.pt2: its model cannot do that"):
        alone.caption(own_photo[0])
