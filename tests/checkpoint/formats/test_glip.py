"""Official GLIP weights become ours: every name, every value, for each kind of model."""

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.checkpoint import OfficialGlip, convert_official_glip, find_format
from glipv2_d2.config import load_model_config
from glipv2_d2.errors import CheckpointError
from glipv2_d2.language import Prompt
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_model
from tools.parity.generated_weights import manifest


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


@pytest.mark.parametrize("kind", ["fused", "unfused"])
@pytest.mark.parametrize("module", [False, True])
def test_nothing_is_lost_and_nothing_changed(kind, module, request):
    state = request.getfixturevalue(kind).state_dict()
    official = official_state(state, module)
    assert isinstance(find_format(official), OfficialGlip) and find_format(state) is None
    before = {name: value.clone() for name, value in official.items()}
    assert_same(convert_official_glip(official), state)
    assert_same(official, before)  # pure


@pytest.mark.parametrize("name", ["glip_t", "glip_t_a", "glip_l"])
def test_every_entry_of_the_official_models_has_its_place(name):
    entries = manifest(name)
    official = {
        entry.name: torch.empty(entry.shape, dtype=getattr(torch, entry.dtype), device="meta")
        for entry in entries
    }
    config = load_model_config(f"pretrain/{name}.py")
    config.language_backbone.pretrained = False
    with torch.device("meta"):
        own = instantiate(config).state_dict()
    converted = convert_official_glip(official)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in own.items()}
    # What is left out is what can be computed, and the class logits.
    left_out = {entry.name for entry in entries if OfficialGlip().explain_left_out(entry.name)}
    assert all(
        "relative_position_index" in n or "cell_anchors" in n or "cls_logits" in n for n in left_out
    )


@pytest.mark.parametrize(
    "name",
    [
        "backbone.body.layers.2.blocks.5.attn.relative_position_index",
        "language_backbone.body.model.embeddings.position_ids",
        "language_backbone.body.model.pooler.dense.weight",
        "rpn.head.mlm_head.decoder.weight",
        "rpn.loss_evaluator.shallow_contrastive_projection_text.weight",
        "rpn.resizer.fc.weight",
        "rpn.anchor_generator.cell_anchors.4",
        "rpn.head.cls_logits.bias",
    ],
)
def test_what_is_not_needed_is_left_out_for_a_reason(name, fused, official):
    assert len(OfficialGlip().explain_left_out(name)) > 10
    more = {**official, name: torch.zeros(2, 2)}
    assert_same(convert_official_glip(more), fused.state_dict())


@pytest.mark.parametrize(
    "name",
    [
        "rpn.head.log_scale",
        "rpn.head.dyhead_tower.0.b_attn.gamma_v",
        "backbone.body.patch_embed.proj.weight",
        "roi_heads.box.weight",
    ],
)
def test_what_is_needed_or_unknown_has_no_such_reason(name):
    assert OfficialGlip().explain_left_out(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "roi_heads.box.weight",
        "rpn.head.token_logits.weight",
        "rpn.head.dyhead_tower.0.t2i_attn.weight",
        "rpn.head.dyhead_tower.1.attention.self.query.scale",
        "rpn.head.dyhead_tower.2.DyConv.3.conv.weight",
        "rpn.head.dyhead_tower.x.offset.weight",
        "rpn.head.log_scale_2",
    ],
)
def test_an_unknown_name_is_an_error_that_says_it(name, official):
    with pytest.raises(CheckpointError, match=f"'{name}' .2,. has no place.*remove it"):
        convert_official_glip({**official, name: torch.zeros(2)})


def test_offsets_of_prompt_tuning_are_for_every_prompt(official, fused):
    """The official forward: `tunable_linear.weight[:T]` is added to `hidden` and `embedded`."""
    offsets = torch.randn(1000, 32, generator=torch.Generator().manual_seed(0))
    model = tiny_model(seed=1)
    model.load_state_dict({**official, "rpn.tunable_linear.weight": offsets})
    tokens = model.tokenizer([Prompt.from_classes(["cat", "red kite"]), Prompt.parse("a [dog]")])
    plain = model.language_backbone(tokens)
    tuned = model.eval().text_features(tokens)
    for field in ("hidden", "embedded"):
        own, expected = (
            getattr(tuned, field),
            getattr(plain, field) + offsets[: plain.mask.shape[1]],
        )
        torch.testing.assert_close(own[tokens.mask], expected[tokens.mask])
    assert convert_official_glip(official).keys() == model.state_dict().keys() - {
        "prompt_embeddings.default"
    }


def test_offsets_that_are_all_zero_are_none(official, fused):
    untuned = {**official, "rpn.tunable_linear.weight": torch.zeros(1000, 32)}
    assert_same(convert_official_glip(untuned), fused.state_dict())


@pytest.mark.parametrize(
    "name, named",
    [
        ("rpn.head.dyhead_tower.4.attention.self.key.weight", "the key"),
        ("rpn.head.dyhead_tower.1.attention.self.value.bias", "the value"),
        ("rpn.head.scales.2.scale", "rpn.head.scales.2.scale"),
    ],
)
def test_a_missing_part_of_a_joined_tensor(name, named, official):
    rest = {k: v for k, v in official.items() if k != name}
    with pytest.raises(CheckpointError, match=f"incomplete.*{named}"):
        convert_official_glip(rest)


def test_other_weights_are_not_taken_for_official_ones(fused):
    for state in (fused.state_dict(), {"backbone.0.body.layer1.weight": torch.zeros(1)}, {}):
        assert find_format(state) is None
        with pytest.raises(CheckpointError, match="not the weights of an official GLIP"):
            convert_official_glip(state)
