"""GLIP-T with generated weights gives the official model's numbers, and mistakes are noticed.

The cases are outputs of the official code (see tools/parity/README.md). All tests share one
model of full size, so they run in one process.
"""

import dataclasses
import json

import pytest
import torch
from torch import nn

from glipv2_d2.modeling import postprocessing
from glipv2_d2.modeling.fusion import dyhead
from tools.parity import __main__ as verify_parity
from tools.parity.cases import ParityCase, TrainingCase
from tools.parity.inference import verify_case
from tools.parity.model import build_model
from tools.parity.training import verify_training

CASES = verify_parity.GOLDEN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def full_model():
    return build_model()


@pytest.fixture
def case_a():
    return ParityCase.load(CASES / "case_a.npz")


def test_the_open_cases(full_model, monkeypatch, capsys):
    monkeypatch.setattr(verify_parity, "build_model", lambda device: full_model)
    arguments = [str(CASES / "case_a.npz"), str(CASES / "case_c.npz")]
    arguments += ["--train", str(CASES / "train_c.json")]
    status = verify_parity.main(arguments)
    output = capsys.readouterr().out
    assert status == 0, output
    assert output.count("100 of 100 stable ones found") == 4  # from tensors and from pictures
    skipped = {line.split()[0] for line in output.splitlines() if "  -  " in line}
    no_plus = {f"det0_noplus1.{part}" for part in ("boxes", "scores", "labels")}
    logits = {f"cls_logits.p{i}" for i in range(3, 8)}
    no_grad = {f"no_grad.rpn.head.cls_logits.{part}" for part in ("weight", "bias")}
    notes = {"losses.loss_cls", "repeat_diff", "disabled", "float64"}
    assert skipped == no_plus | logits | no_grad | notes


def set_all(modules, **attributes):
    """Attributes of modules, put back at the end of the test."""

    def apply(patch, model):
        for module in modules(model):
            for name, value in attributes.items():
                patch.setattr(module, name, value)

    return apply


def norms(part):
    return lambda model: [m for m in part(model).modules() if isinstance(m, nn.LayerNorm)]


def parameters(change, *names):
    def apply(patch, model):
        for name in names:
            patch.setattr(model.get_parameter(name), "data", change(model.get_parameter(name).data))

    return apply


def blocks(name):
    return lambda model: [model.get_submodule(f"neck.blocks.{k}.{name}") for k in range(6)]


def group_norms(model):
    return [m for m in model.neck.modules() if isinstance(m, nn.GroupNorm)]


def tanh_gelu(patch, model):
    for module in [m for m in model.modules() if isinstance(m, nn.GELU)]:
        patch.setattr(module, "approximate", "tanh")


def cropped_offsets(patch, model):
    def crop(fine, size, rule):
        return fine[..., : size[0], : size[1]]

    patch.setattr(dyhead, "offsets_for_coarser", crop)


def half_pixel_upsampling(patch, model):
    resize = torch.nn.functional.interpolate

    def wrong(*args, align_corners=None, **options):
        return resize(*args, align_corners=False if align_corners else None, **options)

    patch.setattr(dyhead.F, "interpolate", wrong)


def swap_offsets(weight):
    """(dx, dy) per tap in place of (dy, dx)."""
    offset, mask = weight[:18], weight[18:]
    return torch.cat((offset.unflatten(0, (9, 2)).flip(1).flatten(0, 1), mask))


OFFSETS = [f"neck.blocks.{k}.dynamic_conv.offset.{p}" for k in range(6) for p in ("weight", "bias")]


@pytest.mark.parametrize(
    ("mistake", "first"),
    [
        (parameters(lambda w: w.flip(1), "backbone.bottom_up.patch_embed.proj.weight"), "swin.c2"),
        (set_all(norms(lambda m: m.backbone.bottom_up), eps=1e-6), ""),
        (set_all(norms(lambda m: m.language_backbone), eps=1e-5), "bert.hidden"),
        (tanh_gelu, "swin.c2"),
        (set_all(blocks("fusion.norm_v"), eps=1e-12), "fuse0.ln_v"),
        (set_all(blocks("dynamic_conv"), offset_rule="resized"), "dyconv0.high.dcn.p3"),
        (cropped_offsets, "dyconv0.high.dcn.p3"),
        (half_pixel_upsampling, "dyconv0.attn"),
        (set_all(group_norms, num_groups=32), "dyconv0.mid.p3"),
        (parameters(swap_offsets, *OFFSETS), "dyconv0.offset.p3"),
        (parameters(lambda w: w * 1.001, "neck.blocks.5.fusion.gamma_l"), "block5.fuse.lang"),
        (set_all(lambda m: [postprocessing], to_continuous=lambda boxes: boxes), "det0.boxes"),
    ],
)
def test_a_mistake_is_found_where_it_is(full_model, case_a, monkeypatch, mistake, first):
    case_a.images = None  # what is made of the pictures fails like what is made of the tensors
    mistake(monkeypatch, full_model)
    failures = verify_case(full_model, case_a).failures
    assert failures
    assert failures[0].name.startswith(first), [row.name for row in failures]


def test_wrong_colors_of_the_picture_are_found(full_model, case_a):
    case_a.images = [picture.flip(0) for picture in case_a.images]
    names = [row.name for row in verify_case(full_model, case_a).failures]
    assert names == ["input", "det0 from the picture"]


def test_a_dropped_detection_is_found(full_model, case_a, monkeypatch):
    detect = full_model.detect

    def all_but_the_best(*args):
        return [d.select(slice(1, None)) for d in detect(*args)]

    monkeypatch.setattr(full_model, "detect", all_but_the_best)
    names = [row.name for row in verify_case(full_model, case_a).failures]
    parts = ("boxes", "scores", "labels", "stable")
    assert names == [*(f"det0.{part}" for part in parts), "det0 from the picture"]


def test_wrong_boxes_in_training_are_found(full_model):
    training = TrainingCase.load(CASES / "train_c.json")
    values = json.loads(json.dumps(training.values))
    for target in values["targets_in"]:  # as if they were continuous already
        target["boxes_xyxy"] = [[x1, y1, x2 - 1, y2 - 1] for x1, y1, x2, y2 in target["boxes_xyxy"]]
    report = verify_training(full_model, dataclasses.replace(training, values=values))
    failed = {row.name for row in report.failures}
    gradient = "grads.rpn.head.bbox_pred.weight"
    assert {"losses.loss_reg", "targets.0.reg_targets", gradient} <= failed
