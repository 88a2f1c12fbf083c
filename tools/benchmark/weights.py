"""Random weights under which a GLIP computes something: sharp attention, real offsets, detections.

A freshly initialized model is a bad thing to measure a speed-up and an agreement on: its offsets
are 0, its attention is flat, language moves nothing, and no box passes the score threshold. Here
every layer keeps the size of its activations, and a few are made as sharp as trained ones.
"""

import math

import torch
from torch import nn

from glipv2_d2.language.positive_map import ClassMap

# By the end of a parameter's name: gain / sqrt(fan in) is the standard deviation.
GAINS = (
    ("attention.v_proj.weight", 1.6),
    ("attention.l_proj.weight", 1.6),
    ("attention.out_v_proj.weight", 1.5),
    ("query.weight", 1.5),
    ("key.weight", 1.5),
    ("offset.weight", 0.5),
    ("scale_attention.weight", 3.0),
    ("fc2.weight", 0.5),  # of Swin; the dynamic ReLU's is the next
    ("relu.fc2.weight", 1.6),
    ("text_projection.weight", 20.0),
    ("bbox_pred.weight", 1.0),
    ("centerness.weight", 2.0),
)
# mean and standard deviation
FIXED = (
    ("gamma_v", 0.2, 0.05),
    ("gamma_l", 0.2, 0.05),
    ("offset.bias", 0.0, 0.2),
    ("log_scale", 0.3, 0.0),
    ("bias0", -4.0, 0.0),
    ("bias_lang", 0.0, 0.5),
    ("box_scales", 1.0, 0.1),
    ("relative_position_bias_table", 0.0, 0.5),
    ("embeddings.weight", 0.0, 0.05),
)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def make_lively(model: nn.Module, seed: int) -> None:
    """Replace all parameters in place; the same values on every machine for one `seed`."""
    generator = torch.Generator().manual_seed(seed)
    norms = {
        f"{name}.{part}": 1.0 if part == "weight" else 0.0
        for name, module in model.named_modules()
        if isinstance(module, NORMS)
        for part in ("weight", "bias")
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, std = _mean_and_std(name, parameter, norms)
            uniform = torch.rand(parameter.shape, generator=generator) * 2 - 1
            parameter.copy_(mean + uniform * math.sqrt(3) * std)


def _mean_and_std(
    name: str, parameter: torch.Tensor, norms: dict[str, float]
) -> tuple[float, float]:
    if name in norms:
        return norms[name], 0.1
    for end, mean, std in FIXED:
        if name.endswith(end):
            return mean, std
    if parameter.ndim < 2:
        return 0.0, 0.05
    gain = max(((len(end), gain) for end, gain in GAINS if name.endswith(end)), default=(0, 1.0))[1]
    return 0.0, gain / math.sqrt(math.prod(parameter.shape[1:]))


def count_candidates(model, logits: torch.Tensor, class_map: ClassMap) -> int:
    """(position, class) pairs of one image, logits (N, T), above the score threshold."""
    return int((class_map.scores(logits) > model.postprocessor.score_threshold).sum())


@torch.no_grad()
def calibrate(model, inputs: list[dict], candidates: int) -> None:
    """Shift the head's bias so that about `candidates` pairs pass the score threshold.

    Counted on the first image and its first prompt. Post-processing then has as much to do as with
    a trained model; the numbers of detections are reported with every measurement.
    """
    first = inputs[0]
    prompt = first["prompt"] if not isinstance(first["prompt"], list) else first["prompt"][0]
    images = model.preprocess_image([first])
    tokens = model.tokenizer([prompt]).to(model.device)
    output = model.ground(model.visual_features(images), model.text_cache.encode(tokens))
    class_map = ClassMap.build(prompt, tokens.positive_maps[0])
    low, high = -40.0, 40.0
    for _ in range(30):
        middle = (low + high) / 2
        if count_candidates(model, output.logits[0] + middle, class_map) > candidates:
            high = middle
        else:
            low = middle
    model.head.bias0 += low
