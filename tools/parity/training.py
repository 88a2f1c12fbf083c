"""One `TrainingCase`: assignment of boxes to anchors, losses and gradients."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from glipv2_d2.checkpoint import OfficialGlip
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.boxes import to_continuous, to_inclusive
from glipv2_d2.modeling.losses import centerness_of

from .cases import TrainingCase, choose_prompt, phrase_prompts
from .comparison import compare_exactly, compare_numbers, compare_tensor
from .generated_weights import Entry
from .official_names import OfficialGradients
from .report import FAIL, OK, SKIP, Report, Row

# Official name of a loss -> ours.
_LOSSES = {
    "loss_reg": "loss_box",
    "loss_centerness": "loss_centerness",
    "loss_dot_product_token": "loss_token",
}
_UNUSED_LOSSES = {"loss_cls": "multiplied by 0 in the official model; ours has no such loss"}
# Of the tolerance, for single entries of a gradient.
SAMPLE_FACTOR = 10
# What a parameter that gets no gradient may have of it through rounding.
_ZERO = 1e-6


def verify_training(
    model: nn.Module,
    case: TrainingCase,
    tolerance: float = 1e-4,
    entries: list[Entry] | None = None,
) -> Report:
    """Compare everything that the file holds; an entry that nothing here knows is a failure.

    Losses and gradient norms are judged by their difference relative to the reference. Single
    entries of a gradient get ten times the tolerance (rounding does not average out in them), and
    are judged relative to their own size, but at least to the root mean square of the whole
    gradient, below which float32 has no digits to compare. Parameters that have no gradient
    officially may have one of norm 1e-6.

    Args:
        model: as `build_model` gives it. Its gradients are cleared before and after.
        tolerance: relative; absolute for the assignment's regression and centerness targets.
        entries: of the official state dict; by default GLIP-T's.
    """
    inputs = [_training_input(model, case, i) for i in range(len(case.values["targets_in"]))]
    model.zero_grad(set_to_none=True)
    model.train()
    try:
        losses = model(inputs)
        sum(losses.values()).backward()
        checks = [
            *_check_targets(model, case, inputs, tolerance),
            *_check_losses(case, {k: float(v.detach()) for k, v in losses.items()}, tolerance),
            *_check_gradients(OfficialGradients(model, entries), case.values, tolerance),
        ]
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
    rows = [*checks, *_information(case.values)]
    known = {row.name.split(".")[0] for row in rows}
    known |= {"case", "images", "targets_in"}  # what the inputs are made of
    unknown = [key for key in case.values if key not in known]
    rows += [Row(key, FAIL, note="unknown: nothing was compared with it") for key in unknown]
    return Report(f"training case {case.values['case']} ({case.path.name})", rows)


def _training_input(model: nn.Module, case: TrainingCase, image: int) -> dict:
    """One phrase of the prompt for each box, and the box as Detectron2 has it, continuous."""
    target = case.values["targets_in"][image]
    height, width = case.case.image_sizes[image]
    boxes = torch.tensor(target["boxes_xyxy"], dtype=torch.float32).reshape(-1, 4)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(to_continuous(boxes))
    instances.gt_classes = torch.arange(len(boxes))
    return {
        "image": _image(model, case, image),
        "prompt": _prompt(model, case, image, target["phrases"]),
        "instances": instances,
    }


def _image(model: nn.Module, case: TrainingCase, image: int) -> torch.Tensor:
    if case.case.images is not None:
        return case.case.images[image]
    # Without the picture: its values are whole numbers, so that they come back exactly.
    height, width = case.case.image_sizes[image]
    stored = case.case.input[image, :, :height, :width]
    return (stored * model.pixel_std.cpu() + model.pixel_mean.cpu()).round()


def _prompt(model: nn.Module, case: TrainingCase, image: int, phrases: list[str]) -> Prompt:
    """The caption with a phrase for each box; see `choose_prompt`."""
    caption = case.case.meta["captions"][image]
    expected = _expected_tokens(case, image)

    def fits(prompt: Prompt) -> bool:
        (positive_map,) = model.tokenizer([prompt]).positive_maps
        return expected is None or expected <= {_tokens(row) for row in positive_map}

    asked = case.case.readings(image)[0]
    if asked.kind == "detection" and set(phrases) <= set(asked.names):
        # A class name may stand inside another one; its own place is known.
        spans = [asked.spans[asked.names.index(phrase)] for phrase in phrases]
        return Prompt.from_caption(caption, spans)
    return choose_prompt(phrase_prompts(caption, phrases), fits)


def _expected_tokens(case: TrainingCase, image: int) -> set[tuple[int, ...]] | None:
    stored = case.values.get("targets", {}).get("images")
    return None if stored is None else {tuple(row) for row in stored[image]["positive_tokens"]}


def _tokens(row: torch.Tensor) -> tuple[int, ...]:
    return tuple(row.nonzero().flatten().tolist())


def _check_targets(
    model: nn.Module, case: TrainingCase, inputs: list[dict], tolerance: float
) -> list[Row]:
    """The assignment of boxes to anchors, in the order of the anchors."""
    stored = case.values.get("targets", {}).get("images", [])
    if not stored:
        return []
    images = model.preprocess_image(inputs)
    with torch.no_grad():
        anchors = model.anchors(model.visual_features(images))
    tokens = model.tokenizer([x["prompt"] for x in inputs])
    rows = []
    for i, (reference, x) in enumerate(zip(stored, inputs)):
        boxes = to_inclusive(x["instances"].gt_boxes.tensor)
        matches = model.losses.matcher(anchors, boxes.to(model.device)).cpu()
        positive = (matches >= 0).nonzero().flatten()
        prefix = f"targets.{i}"
        index = reference["positive_anchor_index"]
        note = f"{len(index)} of {reference['num_anchors']} anchors are positive"
        count = reference["num_anchors"]
        rows.append(compare_exactly(f"{prefix}.num_anchors", len(matches), count))
        rows.append(compare_exactly(f"{prefix}.positive_anchor_index", positive, index, note))
        if rows[-1].status == FAIL:
            continue
        chosen, owner = torch.cat(anchors).cpu()[positive], matches[positive]
        found = [_tokens(tokens.positive_maps[i][k]) for k in owner]
        same = found == [tuple(row) for row in reference["positive_tokens"]]
        rows.append(Row(f"{prefix}.positive_tokens", OK if same else FAIL, note=f"{set(found)}"))
        regression = model.losses.box_coder.encode(chosen, boxes[owner])
        centerness = centerness_of(chosen, boxes[owner])
        for name, ours in (("reg_targets", regression), ("centerness_targets", centerness)):
            there = np.array(reference[name], dtype=np.float64)
            rows.append(compare_tensor(f"{prefix}.{name}", ours, there, tolerance))
    return rows


def _check_losses(case: TrainingCase, losses: dict[str, float], tolerance: float) -> list[Row]:
    values, exact = case.values, case.values.get("float64", {})
    rows, used = [], set()
    for name, reference in values["losses"].items():
        if name in _UNUSED_LOSSES:
            status = SKIP if reference == 0 else FAIL
            rows.append(Row(f"losses.{name}", status, note=_UNUSED_LOSSES[name]))
        elif _LOSSES.get(name) in losses:
            ours = losses[_LOSSES[name]]
            used.add(_LOSSES[name])
            note = f"{ours:.7g}" + _precision(ours, reference, exact.get("losses", {}).get(name))
            rows.append(compare_numbers(f"losses.{name}", ours, reference, tolerance, note=note))
        else:
            rows.append(Row(f"losses.{name}", FAIL, note="unknown: the model has no such loss"))
    rows += [
        Row(f"losses.{name} of ours", FAIL, note="the official model has no such loss")
        for name in losses.keys() - used
    ]
    if "total" in values:
        ours, reference = sum(losses.values()), values["total"]
        note = f"{ours:.7g}" + _precision(ours, reference, exact.get("total"))
        rows.append(compare_numbers("total", ours, reference, tolerance, note=note))
    return rows


def _check_gradients(gradient: OfficialGradients, values: dict, tolerance: float) -> list[Row]:
    exact = values.get("float64", {})
    rows = []
    if "total_grad_norm" in values:
        ours, reference = gradient.total_norm(), values["total_grad_norm"]
        note = f"{ours:.7g}" + _precision(ours, reference, exact.get("total_grad_norm"))
        rows.append(compare_numbers("total_grad_norm", ours, reference, tolerance, note=note))
    for key in ("no_grad", "zero_grad"):
        rows += [_check_zero(gradient, key, name) for name in values.get(key, [])]
    for name, reference in values.get("grads", {}).items():
        ours = gradient(name)
        if ours is None:
            rows.append(Row(f"grads.{name}", FAIL, note="the model has no such weight"))
            continue
        norm64 = exact.get("grad_norms", {}).get(name)
        rows += _check_gradient(name, ours, reference, norm64, tolerance)
    return rows


def _check_gradient(
    name: str, ours: torch.Tensor, reference: dict, norm64: float | None, tolerance: float
) -> list[Row]:
    if ours.numel() != np.prod(reference["shape"]):
        note = f"{ours.numel()} values instead of {reference['shape']}"
        return [Row(f"grads.{name}", FAIL, note=note)]
    norm, stored = float(ours.norm()), reference["norm"]
    note = f"{norm:.7g}" + _precision(norm, stored, norm64)
    sample = ours[:: reference["sample_stride"]][: len(reference["sample"])].numpy()
    root_mean_square = stored / ours.numel() ** 0.5
    return [
        compare_numbers(f"grads.{name}", norm, stored, tolerance, _ZERO, note),
        compare_numbers(
            f"grads.{name} sample", sample, reference["sample"], SAMPLE_FACTOR * tolerance,
            max(root_mean_square, _ZERO), f"{len(sample)} entries",
        ),
    ]  # fmt: skip


def _check_zero(gradient: OfficialGradients, key: str, name: str) -> Row:
    reason = OfficialGlip().explain_left_out(name)
    if reason is not None:
        return Row(f"{key}.{name}", SKIP, note=f"no such weight here: {reason}")
    ours = gradient(name)
    if ours is None:
        return Row(f"{key}.{name}", FAIL, note="the model has no such weight")
    norm = float(ours.norm())
    return Row(f"{key}.{name}", OK if norm <= _ZERO else FAIL, norm, note="norm of ours")


def _precision(ours: float, reference: float, exact: float | None) -> str:
    """How far both are from the official run in float64."""
    if not exact:
        return ""
    theirs, own = abs(reference / exact - 1), abs(ours / exact - 1)
    return f"; from float64: official {theirs:.1e}, ours {own:.1e}"


def _information(values: dict) -> list[Row]:
    """What describes the official run and has no counterpart to compare with."""
    notes = {
        "repeat_diff": "how much two official runs differ",
        "disabled": "modules whose randomness was off in the official run; here all of it is",
        "float64": "the official run in float64: see the notes above",
    }
    return [
        Row(key, SKIP, note=note + ("" if key == "float64" else f": {values[key]}"))
        for key, note in notes.items()
        if key in values
    ]
