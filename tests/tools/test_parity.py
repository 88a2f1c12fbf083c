"""The parity tool on a batch of two, made and checked with a tiny model.

No evidence of fidelity (tests/parity/ has that), but of what the tool notices.
"""

import json

import numpy as np
import pytest
import torch

from tests.support import tiny_parity
from tools.parity import __main__ as verify_parity
from tools.parity.cases import CaseError, ParityCase, TrainingCase, phrase_prompts
from tools.parity.comparison import compare_exactly, compare_numbers, compare_tensor
from tools.parity.detections import DetectionSet, compare_detections
from tools.parity.inference import verify_case
from tools.parity.report import FAIL, OK, SKIP
from tools.parity.training import verify_training


@pytest.fixture(scope="module")
def parity_model():
    return tiny_parity.model()


@pytest.fixture(scope="module")
def parity_folder(parity_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    tiny_parity.write_case(parity_model, folder)
    tiny_parity.write_training(parity_model, folder)
    tiny_parity.write_pictures(folder)
    return folder


@pytest.fixture
def case(parity_folder):
    return ParityCase.load(parity_folder / "case_t.npz")


@pytest.fixture
def training(parity_folder):
    return TrainingCase.load(parity_folder / "train_t.json")


def failed(report):
    return {row.name for row in report.failures}


def rows(report):
    return {row.name: row for row in report.rows}


def test_a_batch_of_two_passes_and_nothing_is_left_out(parity_model, case):
    report = verify_case(parity_model, case)
    assert not report.failures, report
    found = rows(report)
    assert set(case.arrays) <= set(found)
    assert [name for name, row in found.items() if row.status == SKIP] == [
        "cls_logits.p3",
        "det0_noplus1.boxes",
        "det1_noplus1.boxes",
    ]
    assert report.rows[0].name in ("input", "image_sizes")
    assert found["det1 from the picture"].status == OK
    assert found["padded prompt"].absolute < 1e-4
    # Enough of everything for the other tests to mean something.
    assert all(len(case.arrays[f"det{i}.scores"]) > 20 for i in (0, 1))
    assert "within the tolerance" in str(report) and "FAILED" not in str(report)


def test_order_is_from_the_image_to_the_boxes(parity_model, case):
    names = [row.name for row in verify_case(parity_model, case).rows]
    milestones = ["input", "swin.c2", "fpn.p3", "input_ids", "bert.hidden", "fuse0.ln_v"]
    milestones += ["block0.fuse.p3", "dyconv0.offset.p3", "block1.dyconv.p7", "proj_tokens"]
    milestones += ["dot_product_logits.p3", "anchors.p3", "pm0.pairs", "det0.boxes"]
    assert sorted(milestones, key=names.index) == milestones


def test_pictures_may_be_missing(parity_model, case, tmp_path):
    case.path = tmp_path / "case_t.npz"
    report = verify_case(parity_model, case)
    assert not report.failures
    assert rows(report)["input"].status == SKIP
    assert "not beside the file" in rows(report)["input"].note
    assert "det0 from the picture" not in rows(report)


def test_unknown_key_fails(parity_model, case):
    case.arrays["block9.fuse.p3"] = np.zeros(3)
    assert failed(verify_case(parity_model, case)) == {"block9.fuse.p3"}


def perturb(key, change):
    def mistake(model, case):
        case.arrays[key] = change(case.arrays[key].copy())

    return mistake


def first_to(value):
    def change(array):
        array.reshape(-1)[0] = value
        return array

    return change


def rename_statistic(model, case):
    case.meta["sampled"]["fuse0.ln_v"]["absmax"] += 1e-3


def turn_colors(model, case):
    case.images = [picture.flip(0) for picture in case.images]


@pytest.mark.parametrize(
    ("mistake", "names"),
    [
        (perturb("block0.bert.lang", lambda a: a + 2e-4), {"block0.bert.lang"}),
        (perturb("swin.c2", first_to(99.0)), {"swin.c2"}),
        (rename_statistic, {"fuse0.ln_v"}),
        (perturb("bbox_reg.p3", lambda a: a[..., :-1]), {"bbox_reg.p3"}),
        (perturb("fpn.p7", first_to(np.nan)), {"fpn.p7"}),
        (perturb("pm1.pairs", lambda a: a[:-1]), {"pm1.pairs"}),
        (perturb("pm1.matrix", lambda a: a * 0.5), {"pm1.matrix"}),
        (perturb("det1.num_candidates", lambda a: a + 1), {"det1.num_candidates"}),
        (perturb("pad255.bert.hidden", lambda a: a + 1), {"pad255.bert.hidden"}),
        (perturb("anchors.p4", lambda a: a + 0.5), {"anchors.p4"}),
        (turn_colors, {"input", "det0 from the picture", "det1 from the picture"}),
    ],
)
def test_differences_are_found_where_they_are(parity_model, case, mistake, names):
    mistake(parity_model, case)
    assert failed(verify_case(parity_model, case)) == names


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("det1.boxes", lambda a: a + 0.06),
        ("det1.scores", lambda a: a + 2e-4),
        ("det1.labels", lambda a: a + 1),
    ],
)
def test_moved_detections_fail(parity_model, case, key, change):
    perturb(key, change)(parity_model, case)
    expected = {f"det1.{part}" for part in ("boxes", "scores", "labels", "stable")}
    assert failed(verify_case(parity_model, case)) == expected | {"det1 from the picture"}


def test_detections_that_noise_removes_may_be_missing(parity_model, case):
    case.arrays["det1.boxes"][:3] += 50
    case.arrays["det1.stable"][:3] = False
    report = verify_case(parity_model, case)
    assert not report.failures
    assert "0 of 3 others, 3 more of ours" in rows(report)["det1.stable"].note


def test_a_weight_that_is_off_fails_from_there_on(parity_model, case):
    with torch.no_grad():
        parity_model.head.bbox_pred.bias.add_(1e-3)
    try:
        names = failed(verify_case(parity_model, case))
    finally:
        with torch.no_grad():
            parity_model.head.bbox_pred.bias.sub_(1e-3)
    assert {f"bbox_reg.p{i}" for i in range(3, 8)} <= names
    assert not [n for n in names if not n.startswith(("bbox_reg", "det"))]


def test_one_detection_fewer_fails(parity_model, case, monkeypatch):
    counts = [len(case.arrays[f"det{i}.scores"]) for i in (0, 1)]
    monkeypatch.setattr(parity_model.postprocessor, "detections_per_prompt", min(counts) - 1)
    assert "det0.stable" in failed(verify_case(parity_model, case))


def test_training_of_a_batch_of_two(parity_model, training):
    entries = tiny_parity.official_manifest(parity_model)
    report = verify_training(parity_model, training, entries=entries)
    assert not report.failures, report
    found = rows(report)
    assert found["losses.loss_cls"].status == SKIP
    assert found["no_grad.rpn.head.cls_logits.weight"].status == SKIP
    assert found["zero_grad.rpn.head.scales.4.scale"].absolute == 0
    assert found["targets.1.positive_anchor_index"].status == OK
    assert "grads.rpn.head.dyhead_tower.1.attention.self.key.weight sample" in found
    assert all(p.grad is None for p in parity_model.parameters()) and not parity_model.training


def grow(key, factor=1.001):
    def mistake(values):
        *path, last = key.split("/")
        for part in path:
            values = values[int(part) if part.isdigit() else part]
        values[int(last) if last.isdigit() else last] *= factor

    return mistake


def shift_positive(values):
    values["targets"]["images"][1]["positive_anchor_index"][0] += 1


def other_tokens(values):
    values["targets"]["images"][0]["positive_tokens"][0] = [0]


KEY = "rpn.head.dyhead_tower.1.attention.self.key.weight"


@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        (grow("losses/loss_reg"), "losses.loss_reg"),
        (grow("total_grad_norm"), "total_grad_norm"),
        (grow(f"grads/{KEY}/norm"), f"grads.{KEY}"),
        (grow(f"grads/{KEY}/sample/1", -1), f"grads.{KEY} sample"),
        (lambda v: v["losses"].update(loss_cls=0.1), "losses.loss_cls"),
        (lambda v: v["losses"].update(loss_new=0.1), "losses.loss_new"),
        (lambda v: v["losses"].pop("loss_reg"), "losses.loss_box of ours"),
        (lambda v: v["zero_grad"].append(KEY), f"zero_grad.{KEY}"),
        (lambda v: v["no_grad"].append("rpn.head.new"), "no_grad.rpn.head.new"),
        (lambda v: v.update(surprise=1), "surprise"),
        (shift_positive, "targets.1.positive_anchor_index"),
        (other_tokens, "targets.0.positive_tokens"),
    ],
)
def test_training_differences_are_found(parity_model, training, mistake, name):
    mistake(training.values)
    entries = tiny_parity.official_manifest(parity_model)
    assert failed(verify_training(parity_model, training, entries=entries)) == {name}


def test_training_images_come_back_from_the_network_input(parity_model, training, tmp_path):
    training.case.path = tmp_path / "case_t.npz"
    entries = tiny_parity.official_manifest(parity_model)
    assert not verify_training(parity_model, training, entries=entries).failures


def test_readings_of_a_phrase_that_occurs_twice():
    caption = "a dog, a dogma and a dog"
    first, in_order, together = phrase_prompts(caption, ["a dog", "a dog"])
    assert first.spans == (((0, 5),), ((0, 5),))
    assert in_order.spans == (((0, 5),), ((19, 24),))
    assert together.spans == (((0, 5), (19, 24)),) * 2
    assert len(phrase_prompts(caption, ["a dogma"])) == 1
    with pytest.raises(CaseError, match="'a cat' does not occur"):
        phrase_prompts(caption, ["a cat"])


def test_names_with_another_separator(case):
    case.meta["captions"][0] = "cat . dog . red kite . "
    (prompt,) = case.readings(0)
    assert [prompt.caption[s:e] for ((s, e),) in prompt.spans] == ["cat", "dog", "red kite"]


def test_relative_numbers_near_zero():
    assert compare_numbers("x", 0.0, 0.0, 1e-4).status == OK
    assert compare_numbers("x", 1e-9, 0.0, 1e-4).status == FAIL
    assert compare_numbers("x", 1e-9, 0.0, 1e-4, floor=1e-3).status == OK
    assert compare_numbers("x", np.nan, 1.0, 1e-4).status == FAIL
    assert compare_numbers("x", [1.0], [1.0, 2.0], 1e-4).status == FAIL


def test_empty_tensors_are_equal():
    empty = np.zeros((0, 4), np.float32)
    assert compare_tensor("x", torch.zeros(0, 4), empty, 1e-4).status == OK
    assert compare_exactly("x", empty, empty).status == OK


def test_one_detection_serves_only_once():
    one = DetectionSet(np.zeros((1, 4)), np.array([0.5]), np.array([1]))
    two = DetectionSet(*(np.repeat(part, 2, axis=0) for part in one))
    found = compare_detections("det0", one, two, np.array([True, True]), 1e-4)
    assert {row.status for row in found} == {FAIL} and "missing: label 1" in found[-1].note
    none = DetectionSet(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert compare_detections("det0", one, none, np.zeros(0, bool), 1e-4)[0].status == OK
    assert compare_detections("det0", none, one, np.array([True]), 1e-4)[0].status == FAIL


def damaged(folder, text):
    path = folder / "bad.npz"
    path.write_bytes(text)
    return [str(path)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda f: [str(f / "none.npz")], "none.npz' cannot be read"),
        (lambda f: damaged(f, b"not an archive"), "bad.npz' cannot be read"),
        (lambda f: damaged(f, b""), "bad.npz' cannot be read"),
        (lambda f: ["--train", str(f / "none.json")], "none.json' cannot be read"),
        (lambda f: ["--train", str(lonely(f))], "give its .npz file, too"),
    ],
)
def test_unreadable_files_end_in_one_line(tmp_path, capsys, arguments, message):
    assert verify_parity.main(arguments(tmp_path)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def lonely(folder):
    path = folder / "train_z.json"
    path.write_text(json.dumps({"case": "z", "targets_in": [], "losses": {}}))
    return path


def test_incomplete_case(tmp_path):
    tiny_parity.save_case(tmp_path / "x.npz", {"input": np.zeros(1)}, {"captions": []})
    with pytest.raises(CaseError, match="image_sizes, input_ids, attention_mask, prompts missing"):
        ParityCase.load(tmp_path / "x.npz")


def test_the_command_prints_and_returns(parity_model, parity_folder, monkeypatch, capsys):
    monkeypatch.setattr(verify_parity, "build_model", lambda device: parity_model)
    path = str(parity_folder / "case_t.npz")
    assert verify_parity.main([path]) == 0
    assert capsys.readouterr().out.count("case t (case_t.npz)") == 3
    assert verify_parity.main([path, "--tolerance", "1e-9"]) == 1
    assert "FAILED" in capsys.readouterr().out
