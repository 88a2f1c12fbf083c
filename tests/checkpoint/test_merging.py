"""Weights between a base and a tuned model."""

import pytest
import torch

from glipv2_d2.checkpoint.merging import merge_weights
from glipv2_d2.errors import CheckpointError, UsageError
from tests.support.tiny import tiny_model
from tests.support.toy_model import Toy


def states():
    torch.manual_seed(0)
    return Toy().state_dict(), Toy().state_dict()


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_ends_are_equal_to_the_models_and_the_middle_lies_between():
    base, tuned = states()
    assert equal(merge_weights(base, tuned, 0), base)
    assert equal(merge_weights(base, tuned, 1), tuned)
    merged = merge_weights(base, tuned, 0.25)
    torch.testing.assert_close(
        merged["neck.weight"], 0.75 * base["neck.weight"] + 0.25 * tuned["neck.weight"]
    )
    merged["neck.weight"].zero_()
    assert base["neck.weight"].any() and tuned["neck.weight"].any()


def test_a_whole_model_can_be_merged_and_loaded():
    base, tuned = tiny_model(seed=1), tiny_model(seed=2)
    for alpha, end in ((0, base), (1, tuned)):
        assert equal(merge_weights(base.state_dict(), tuned.state_dict(), alpha), end.state_dict())
    base.load_state_dict(merge_weights(base.state_dict(), tuned.state_dict(), 0.5))


def test_parts_alone_are_merged():
    base, tuned = tiny_model(seed=1).state_dict(), tiny_model(seed=2).state_dict()
    part = "neck.blocks.0.dynamic_conv"
    merged = merge_weights(base, tuned, 0.5, [part, "head"])
    whole = merge_weights(base, tuned, 0.5)
    for name, value in merged.items():
        inside = name.startswith((f"{part}.", "head."))
        assert torch.equal(value, (whole if inside else tuned)[name]), name
    with pytest.raises(UsageError, match="no part 'nec' has weights; parts are backbone,"):
        merge_weights(base, tuned, 0.5, ["nec"])


def test_a_frozen_part_stays_as_it_is():
    base, tuned = states()
    tuned["head.weight"] = base["head.weight"].clone()
    for alpha in (0.1, 0.3, 0.7):
        assert torch.equal(merge_weights(base, tuned, alpha)["head.weight"], base["head.weight"])


def test_the_wider_type_is_kept():
    base, tuned = states()
    half = {name: value.half() for name, value in base.items()}
    merged = merge_weights(half, tuned, 0)
    assert all(value.dtype == torch.float32 for value in merged.values())
    assert equal(merged, {name: value.float() for name, value in half.items()})
    assert equal(merge_weights(half, tuned, 1), tuned)
    # Half of both, rounded once: in float16 the difference of these would be infinite.
    wide = merge_weights(
        {"w": half["head.bias"] * 0 - 6e4}, {"w": half["head.bias"] * 0 + 6e4}, 0.5
    )
    assert wide["w"].dtype == torch.float16 and not wide["w"].any()


@pytest.mark.parametrize(
    "name", ["prompt_embeddings.offsets.pets", "neck.blocks.0.fusion.positions.weight"]
)
def test_offsets_and_positions_count_as_zero_where_they_are_not(name):
    base, tuned = states()
    tuned[name] = torch.ones(5, 4)
    assert torch.equal(merge_weights(base, tuned, 0.25)[name], torch.full((5, 4), 0.25))
    assert torch.equal(merge_weights(tuned, base, 0.25)[name], torch.full((5, 4), 0.75))


def test_a_head_that_one_side_has_is_taken_as_it_is():
    base, tuned = states()
    tuned["vqa_head.weight"], base["mask_head.weight"] = torch.ones(2), torch.full((3,), 2.0)
    for alpha in (0, 0.25, 1):
        merged = merge_weights(base, tuned, alpha)
        assert torch.equal(merged["vqa_head.weight"], tuned["vqa_head.weight"])
        assert torch.equal(merged["mask_head.weight"], base["mask_head.weight"])
    base["vqa_head.weight"], tuned["vqa_head.digest"] = torch.zeros(2), torch.tensor(7)
    assert merge_weights(base, tuned, 0.5)["vqa_head.digest"] == 7  # the base file is older


def test_a_release_without_its_frozen_language_backbone_is_no_end():
    """The other one's language backbone would be that of every alpha, 0 and 1 included."""
    base, tuned = states()
    release = {k: v for k, v in base.items() if not k.startswith("language_backbone.")}
    for one, other, side in ((release, tuned, "tuned"), (tuned, release, "base")):
        match = f"only the {side} weights have language_backbone.*the config, too"
        with pytest.raises(CheckpointError, match=match):
            merge_weights(one, other, 0.5)


def test_integers_are_not_merged():
    base, tuned = states()
    counter = "neck.norm.num_batches_tracked"
    base[counter], tuned[counter] = torch.tensor(10), torch.tensor(20)
    merged = [merge_weights(base, tuned, alpha)[counter] for alpha in (0, 0.4, 0.6, 1)]
    assert merged == [10, 10, 20, 20]
    base["vqa_head.answers"], tuned["vqa_head.answers"] = torch.tensor(1), torch.tensor(2)
    with pytest.raises(CheckpointError, match="different models.*integers of vqa_head.answers"):
        merge_weights(base, tuned, 0.5)


def test_what_cannot_be_merged():
    base, tuned = states()
    with pytest.raises(UsageError, match="alpha is from 0.*got 1.5"):
        merge_weights(base, tuned, 1.5)
    with pytest.raises(CheckpointError, match=r"neck.weight is \(4, 4\) in the base, \(6, 6\) in"):
        merge_weights(base, Toy(width=6).state_dict() | {n: tuned[n] for n in list(tuned)[:2]}, 0.5)
    for one, other, side in ((base, tuned, "tuned"), (tuned, base, "base")):
        part = {name: value for name, value in one.items() if name != "head.bias"}
        with pytest.raises(CheckpointError, match=f"only the {side} weights have head.bias"):
            merge_weights(*((part, other) if side == "tuned" else (other, part)), 0.5)
