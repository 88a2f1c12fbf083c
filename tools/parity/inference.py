"""One case of `ParityCase`: everything the model computes from the images to the detections."""

import re
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import ImageList
from torch import nn

from glipv2_d2.language import Prompt, TokenizedPrompts
from glipv2_d2.language.positive_map import ClassMap
from glipv2_d2.modeling.boxes import to_inclusive
from glipv2_d2.modeling.meta_arch.inference import EncodedImages

from .capture import Capture, Tensors
from .cases import ParityCase, choose_prompt
from .comparison import compare_exactly, compare_tensor
from .detections import DetectionSet, compare_detections
from .report import FAIL, OK, SKIP, Report, Row

# Stored tensors without a counterpart, and why.
NOT_COMPUTED = (
    (r"cls_logits\.p\d", "official class logits that its scores do not use; no such layer here"),
    (r"det\d+_noplus1\.\w+", "official outcome of a mistake (NMS without +1), for comparison"),
)
# From the image to the final boxes; within one pattern the file's own order.
_ORDER = (
    r"input$|image_sizes$ swin\. fpn\. input_ids$|attention_mask$ bert\. fuse0\. "
    r"block0\.(fuse|bert)\. dyconv0\. block0\. block proj_tokens$ cls_logits\. "
    r"dot_product_logits\. bbox_reg\. centerness\. anchors\. pm\d det\d+\.num_candidates$ "
    r"det\d+\. det\d+_ pad255\."
).split()


class _Run(NamedTuple):
    """What the model made of a case: its prompts and tokens, all tensors, and the pyramid."""

    prompts: list[Prompt]
    tokens: TokenizedPrompts
    tensors: Tensors
    features: list[torch.Tensor]
    output: NamedTuple


@torch.no_grad()
def verify_case(model: nn.Module, case: ParityCase, tolerance: float = 1e-4) -> Report:
    """Compare every stored value; a key that nothing here knows is a failure.

    The network is fed the stored input and tokens, so that a difference shows where it arises; how
    this project makes them from the pictures and prompts is compared, too, and the detections are
    also made from the pictures in one piece.

    Args:
        model: as `build_model` gives it.
        tolerance: largest absolute difference of a tensor, and of a detection's score.
    """
    model.eval()  # forgets cached texts, too
    prompts = _prompts(model, case)
    tokens = _stored_tokens(case, case.num_tokens, model.device)
    run = _run(model, case, prompts, tokens)
    report = Report(f"case {case.name} ({case.path.name})")
    rows: dict[str, Row] = {}
    checks = (_check_inputs, _check_tensors, _check_prompts, _check_detections, _check_padding)
    for check in checks:
        rows.update((row.name, row) for row in check(model, case, run, tolerance))
    names = sorted(case.arrays, key=_rank)
    # Rows that are not stored values (runs in one piece, of the padded prompt) come last.
    names += [name for name in rows if name not in case.arrays]
    report.rows = [rows[name] if name in rows else _unmatched(name) for name in names]
    return report


def _rank(name: str) -> int:
    return next((i for i, pattern in enumerate(_ORDER) if re.match(pattern, name)), len(_ORDER))


def _unmatched(name: str) -> Row:
    for pattern, reason in NOT_COMPUTED:
        if re.fullmatch(pattern, name):
            return Row(name, SKIP, note=reason)
    return Row(name, FAIL, note="unknown: nothing was compared with it")


def _prompts(model: nn.Module, case: ParityCase) -> list[Prompt]:
    """The prompts; where a caption leaves the choice, those whose tokens the file names."""

    def prompt_of(image: int) -> Prompt:
        pairs = case.arrays.get(f"pm{image}.pairs")

        def fits(prompt: Prompt) -> bool:
            (positive_map,) = model.tokenizer([prompt]).positive_maps
            return pairs is None or np.array_equal(_pairs(positive_map), _sorted(pairs))

        return choose_prompt(case.readings(image), fits)

    return [prompt_of(i) for i in range(len(case.image_sizes))]


def _stored_tokens(case: ParityCase, width: int, device: torch.device) -> TokenizedPrompts:
    ids = torch.from_numpy(case.arrays["input_ids"][:, :width])
    mask = torch.from_numpy(case.arrays["attention_mask"][:, :width]).bool()
    return TokenizedPrompts(ids, mask, []).to(device)


def _run(
    model: nn.Module, case: ParityCase, prompts: list[Prompt], tokens: TokenizedPrompts
) -> _Run:
    images = ImageList(case.input.to(model.device), case.image_sizes)
    with Capture(model) as capture:
        features = model.visual_features(images)
        output = model.ground(features, model.language_backbone(tokens))
    tensors = capture.tensors()
    levels = model.backbone.output_shape()
    tensors.update((f"anchors.{p}", a.cpu()) for p, a in zip(levels, model.anchors(features)))
    return _Run(prompts, tokens, tensors, features, output)


def _check_inputs(model, case: ParityCase, run: _Run, tolerance: float) -> list[Row]:
    """What this project makes of pictures and prompts, against what the official code made."""
    arrays = case.arrays
    tokens = model.tokenizer(run.prompts)
    missing = arrays["input_ids"].shape[1] - tokens.input_ids.shape[1]
    ids = F.pad(tokens.input_ids, (0, missing), value=model.tokenizer.pad_token_id).numpy()
    mask = F.pad(tokens.mask, (0, missing)).long().numpy()
    rows = [compare_exactly("input_ids", ids, arrays["input_ids"], f"padded by {missing}")]
    for name in ("attention_mask", "bert.masks"):
        if name in arrays:
            rows.append(compare_exactly(name, mask, arrays[name]))
    for i, prompt in enumerate(run.prompts):
        if prompt.caption != case.meta["captions"][i]:
            rows.append(Row(f"caption {i}", FAIL, note=f"{prompt.caption!r} here"))
    if case.images is None:
        note = f"the pictures {case.meta.get('images')} are not beside the file; fed as stored"
        return rows + [Row(name, SKIP, note=note) for name in ("input", "image_sizes")]
    batch = model.preprocess_image([{"image": image} for image in case.images])
    sizes = np.array(batch.image_sizes)
    return [
        *rows,
        compare_tensor("input", batch.tensor, arrays["input"], tolerance),
        compare_exactly("image_sizes", sizes, arrays["image_sizes"]),
    ]


def _check_tensors(model, case: ParityCase, run: _Run, tolerance: float) -> list[Row]:
    return [
        compare_tensor(name, tensor, case.arrays[name], tolerance, case.sampled.get(name))
        for name, tensor in run.tensors.items()
        if name in case.arrays
    ]


def _check_prompts(model, case: ParityCase, run: _Run, tolerance: float) -> list[Row]:
    """Positive maps as (label, token) pairs, and with rows that sum to 1."""
    rows = []
    for i, prompt in enumerate(run.prompts):
        (positive_map,) = model.tokenizer([prompt]).positive_maps
        pairs, matrix = f"pm{i}.pairs", f"pm{i}.matrix"
        if pairs in case.arrays:
            stored = _sorted(case.arrays[pairs])
            rows.append(compare_exactly(pairs, _pairs(positive_map), stored))
        if matrix in case.arrays:
            reference = case.arrays[matrix]
            weights = ClassMap.build(prompt, positive_map).phrase_weights
            weights = F.pad(weights, (0, reference.shape[1] - weights.shape[1]))
            rows.append(compare_tensor(matrix, weights, reference, tolerance))
    return rows


def _pairs(positive_map: torch.Tensor) -> np.ndarray:
    """(n, 2): label, from 1, and token, in the order of both."""
    return (positive_map.nonzero() + torch.tensor([1, 0])).numpy()


def _sorted(pairs: np.ndarray) -> np.ndarray:
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _check_detections(model, case: ParityCase, run: _Run, tolerance: float) -> list[Row]:
    asked = [[prompt] for prompt in run.prompts]
    found = model.detect(EncodedImages(run.features, case.image_sizes), asked)
    detected = [_as_set(d.boxes, d.scores, d.classes) for d in found]
    rows = []
    for i, ours in enumerate(detected):
        rows += _compare_image(case, i, ours, tolerance)
        if f"det{i}.num_candidates" in case.arrays:
            rows.append(_compare_candidates(model, case, run, i, tolerance))
    if case.images is None:
        return rows
    # As one batch, its smaller images padded, which is what the official code does; `model(inputs)`
    # would show each as if it were alone.
    batch = model.preprocess_image([{"image": image} for image in case.images])
    found = model.detect(EncodedImages(model.visual_features(batch), batch.image_sizes), asked)
    for i, of_image in enumerate(zip(found, asked, batch.image_sizes)):
        found = model.postprocessor.to_instances(*of_image)
        boxes = to_inclusive(found.pred_boxes.tensor)
        ours = _as_set(boxes, found.scores, found.pred_classes)
        whole = [row for row in _compare_image(case, i, ours, tolerance) if "stable" in row.name]
        rows += [Row(f"det{i} from the picture", w.status, note=w.note) for w in whole]
    return rows


def _compare_image(case: ParityCase, i: int, ours: DetectionSet, tolerance: float) -> list[Row]:
    arrays, prefix = case.arrays, f"det{i}"
    if f"{prefix}.boxes" not in arrays:
        return [Row(f"{prefix}.boxes", FAIL, note="the file has no detections of this image")]
    reference = DetectionSet(*(arrays[f"{prefix}.{part}"] for part in DetectionSet._fields))
    # Where the file does not say which are stable all must be found.
    stable = arrays.get(f"{prefix}.stable", np.ones(len(reference.scores), dtype=bool))
    return compare_detections(prefix, ours, reference, stable, tolerance)


def _as_set(boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor) -> DetectionSet:
    return DetectionSet(boxes.cpu().numpy(), scores.cpu().numpy(), classes.cpu().numpy() + 1)


def _compare_candidates(model, case: ParityCase, run: _Run, i: int, tolerance: float) -> Row:
    """Pairs of anchor and class above the score threshold, per level.

    One whose score lies within the tolerance of the threshold may fall on either side.
    """
    (positive_map,) = model.tokenizer([run.prompts[i]]).positive_maps
    positive_map = F.pad(positive_map, (0, run.tokens.mask.shape[1] - positive_map.shape[1]))
    class_map = ClassMap.build(run.prompts[i], positive_map.to(model.device))
    scores = class_map.scores(run.output.logits[i]).split(run.output.level_lengths())
    threshold = model.postprocessor.score_threshold
    ours = np.array([int((s > threshold).sum()) for s in scores])
    unsure = np.array([int(((s - threshold).abs() < tolerance).sum()) for s in scores])
    reference = case.arrays[f"det{i}.num_candidates"]
    difference = np.abs(ours - reference)
    status = OK if (difference <= unsure).all() else FAIL
    note = f"{ours.tolist()} here, {reference.tolist()} there; {int(unsure.sum())} at the threshold"
    return Row(f"det{i}.num_candidates", status, float(difference.max()), note=note)


def _check_padding(model, case: ParityCase, run: _Run, tolerance: float) -> list[Row]:
    """The prompts padded to the official width: its pad tokens, and that nothing else changes."""
    width = case.arrays["input_ids"].shape[1]
    tokens = _stored_tokens(case, width, model.device)
    padded = _run(model, case, run.prompts, tokens).tensors
    rows = []
    for name in (key for key in case.arrays if key.startswith("pad255.")):
        tensor = padded.get(name.removeprefix("pad255."))
        if tensor is None:
            continue
        last = tensor[..., -1] if "logits" in name else tensor[:, -1]
        rows.append(compare_tensor(name, last, case.arrays[name], tolerance))
    differences = {name: _difference(tensor, padded[name]) for name, tensor in run.tensors.items()}
    worst = max(differences, key=differences.get)
    status = OK if differences[worst] <= tolerance else FAIL
    note = f"all tensors, {width} tokens against {case.num_tokens}; largest in {worst}"
    share = differences[worst] / tolerance
    return [*rows, Row("padded prompt", status, differences[worst], share=share, note=note)]


def _difference(ours: torch.Tensor, padded: torch.Tensor) -> float:
    """Largest difference over the positions and tokens that both have."""
    common = tuple(slice(0, size) for size in ours.shape)
    return float((ours - padded[common]).abs().max())
