"""Weights of the official GLIP models that anyone can make, so that 230 million need no download.

The parity cases are outputs of the official code with these weights. A weight's values depend on
its official name and its shape alone: a frozen NumPy stream, seeded by the name's CRC-32, gives
uniform numbers, which are stretched to the mean and spread of the first rule that fits the name.
Only additions and products follow, so that every machine makes the same bits; `DIGESTS` proves it.

`manifests/` holds name, shape and dtype of every entry of the official state dicts, in order.
"""

import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

MANIFESTS = Path(__file__).resolve().parent / "manifests"

# SHA-256 of all generated tensors of a model, as little-endian float32 in the manifest's order.
DIGESTS = {
    "glip_t": "cdf2ff163c863c5d128a087832348dc7853d98784f892fc38ab60ba48ee684d4",
    "glip_l": "34d5f31ed8cfe56caa655b3f39e0feeb4f694306768faf3d3ab9d32dd96999b0",
    "glip_t_a": "373470c8d8fb012176c46deee9d4f15ec05c497ca71f78bf3e9ec7bfe4cba0fd",
}


class Entry(NamedTuple):
    """One entry of an official state dict; `dtype` as PyTorch writes it, without "torch."."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Spread(NamedTuple):
    """Uniform values of this mean and standard deviation.

    With `per_fan_in` the deviation is divided by the square root of the weight's inputs.
    """

    mean: float
    deviation: float
    per_fan_in: bool = False


def _gain(value: float) -> Spread:
    return Spread(0.0, value, per_fan_in=True)


_NORM = r"(?:norm\d*|LayerNorm|layer_norm\w*|bn)"
# The first pattern that is found in the name decides.
_RULES = [
    (re.compile(pattern), spread)
    for pattern, spread in [
        (r"running_var$", Spread(1.0, 0.1)),
        (r"running_mean$", Spread(0.0, 0.1)),
        (_NORM + r"\.weight$", Spread(1.0, 0.1)),
        (_NORM + r"\.bias$", Spread(0.0, 0.1)),
        (r"relative_position_bias_table$", Spread(0.0, 0.5)),
        # BERT and the text layers of the tower.
        (r"word_embeddings\.weight$", Spread(0.0, 0.05)),
        (r"(position|token_type)_embeddings\.weight$", Spread(0.0, 0.02)),
        (r"attention\.self\.(query|key)\.weight$", _gain(1.5)),
        (r"attention\.output\.dense\.weight$", _gain(0.3)),
        (r"\d\.output\.dense\.weight$", _gain(0.4)),
        # Fusion: strong, so that the text visibly moves the image features.
        (r"b_attn\.gamma_[vl]$", Spread(0.2, 0.05)),
        (r"b_attn\.attn\.[vl]_proj\.weight$", _gain(1.6)),
        (r"b_attn\.attn\.out_v_proj\.weight$", _gain(1.5)),
        (r"b_attn\.attn\.out_l_proj\.weight$", _gain(1.0)),
        # Dynamic convolution.
        (r"\.offset\.weight$", _gain(0.5)),
        (r"\.offset\.bias$", Spread(0.0, 0.2)),
        (r"AttnConv\.1\.weight$", _gain(3.0)),
        (r"relu\.fc\.[02]\.weight$", _gain(1.6)),
        # Predictors.
        (r"head\.log_scale$", Spread(0.3, 0.1)),
        (r"head\.bias0$", Spread(-4.0, 0.1)),
        (r"head\.bias_lang$", Spread(0.0, 0.5)),
        (r"dot_product_projection_text\.weight$", _gain(32.0)),
        (r"head\.(bbox_pred|centerness)\.weight$", _gain(6.0)),
        (r"head\.cls_logits\.weight$", _gain(4.0)),
        (r"head\.scales\.\d+\.scale$", Spread(1.0, 0.1)),
        (r"\.bias$", Spread(0.0, 0.05)),
        (r"", _gain(1.0)),
    ]
]


def manifest(model: str) -> list[Entry]:
    """The entries of an official state dict; `model` is a key of `DIGESTS`."""
    with gzip.open(MANIFESTS / f"{model}.json.gz", "rt", encoding="utf-8") as file:
        return [Entry(name, tuple(shape), dtype) for name, shape, dtype in json.load(file)]


def is_generated(entry: Entry) -> bool:
    """Whether the entry gets values from here; integer tables and anchors are the model's own."""
    return entry.dtype.startswith("float") and "cell_anchors" not in entry.name


def generate(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 values of the weight with this official name (without "module.")."""
    spread = next(spread for pattern, spread in _RULES if pattern.search(name))
    deviation = spread.deviation
    if spread.per_fan_in:
        deviation = deviation / math.sqrt(max(1, math.prod(shape[1:])))
    # The old generator, because its stream is frozen for good.
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    values = stream.random_sample(shape)
    # In float64 and in this order: another one would round differently.
    return (spread.mean + (2.0 * values - 1.0) * (math.sqrt(3.0) * deviation)).astype(np.float32)


def generated_tensors(model: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and values of every generated entry, in the manifest's order, one at a time."""
    for entry in filter(is_generated, manifest(model)):
        yield entry.name, torch.from_numpy(generate(entry.name, entry.shape))


def generated_state(model: str) -> dict[str, torch.Tensor]:
    """The generated part of an official state dict (GLIP-T: 0.9 GB)."""
    return dict(generated_tensors(model))


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 of float32 tensors, one behind the other; to compare with `DIGESTS`."""
    result = hashlib.sha256()
    for tensor in tensors:
        result.update(tensor.numpy().astype("<f4", copy=False).tobytes())
    return result.hexdigest()
