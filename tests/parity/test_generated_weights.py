"""The weights that the parity cases were made with come out of this repository's own rules."""

import numpy as np
import pytest

from tools.parity.generated_weights import (
    DIGESTS,
    digest,
    generate,
    generated_tensors,
    is_generated,
    manifest,
)


@pytest.mark.parametrize(
    ("model", "entries", "generated", "values"),
    [
        ("glip_t", 745, 728, 231_780_222),
        ("glip_t_a", 541, 524, 151_430_526),
        ("glip_l", 1021, 992, 430_422_384),
    ],
)
def test_manifests_are_whole(model, entries, generated, values):
    listed = manifest(model)
    made = [entry for entry in listed if is_generated(entry)]
    assert (len(listed), len(made)) == (entries, generated)
    assert sum(int(np.prod(entry.shape)) for entry in made) == values


def test_first_rule_that_fits_decides():
    """A norm's bias is no plain bias, the query of the text layers no plain weight."""
    assert np.abs(generate("rpn.head.dyhead_tower.2.DyConv.0.bn.bias", (4000,))).max() > 0.09
    assert np.abs(generate("rpn.head.centerness.bias", (4000,))).max() < 0.09
    query = generate("rpn.head.dyhead_tower.1.attention.self.query.weight", (64, 64))
    assert query.std() == pytest.approx(1.5 / 8, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("model", list(DIGESTS))
def test_every_bit_is_the_official_runs_one(model):
    assert digest(tensor for _, tensor in generated_tensors(model)) == DIGESTS[model]
