"""The recipes of GLIPv2 hold what the paper states, and its models have the parts they name."""

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from glipv2_d2.checkpoint import published_config
from glipv2_d2.config import get_config
from glipv2_d2.modeling import GLIPv2

NAMES = ("glipv2_t", "glipv2_t_stage2", "glipv2_b", "glipv2_b_stage2", "glipv2_h")
SECOND = {"glipv2_t_stage2": "glipv2_t", "glipv2_b_stage2": "glipv2_b"}
GOLD = {"goldg_mixed_train", "goldg_mixed_no_coco_train", "goldg_flickr_train"}
PAIRS = {"cap4m_train", "cc15m_sbu_train"}


def build_on_meta(name):
    model = get_config(f"pretrain/{name}.py").model
    model.language_backbone.pretrained = False
    with torch.device("meta"):
        return instantiate(model)


@pytest.mark.parametrize(
    ("name", "vocabulary"), [("glipv2_t", 30522), ("glipv2_b", 49408), ("glipv2_h", 49408)]
)
def test_a_word_to_be_predicted_is_one_that_the_encoder_knows(name, vocabulary):
    model = build_on_meta(name)
    assert isinstance(model, GLIPv2)
    assert model.tokenizer.max_tokens == 256
    embedding = max(
        (p for p in model.language_backbone.parameters() if p.dim() == 2), key=lambda p: len(p)
    )
    assert len(embedding) == model.mlm_head.decoder.out_features == vocabulary


@pytest.mark.parametrize("name", SECOND)
def test_the_second_stage_masks_no_words_and_keeps_the_contrast(name):
    model = build_on_meta(name)
    assert model.mlm_head is None and model.contrast is not None


# Appendix D.1: steps of each stage, base rate and that of the language backbone, batch.
@pytest.mark.parametrize(
    ("name", "steps", "language_rate"),
    [
        ("glipv2_t", 330_000, 1e-5),
        ("glipv2_t_stage2", 300_000, 1e-5),
        ("glipv2_b", 1_000_000, 1e-4),
        ("glipv2_b_stage2", 500_000, 1e-4),
        ("glipv2_h", 1_000_000, 1e-4),
    ],
)
def test_schedule(name, steps, language_rate):
    config = get_config(f"pretrain/{name}.py")
    assert config.train.max_iter == steps
    assert config.dataloader.train.total_batch_size == 64
    assert config.optimizer.lr == 1e-4
    rates = config.optimizer.params.lr_by_prefix
    assert rates.get("language_backbone", config.optimizer.lr) == language_rate
    assert tuple(config.lr_multiplier.steps) == (0.67, 0.89) and config.lr_multiplier.gamma == 0.1


def datasets(name):
    return {entry[0] for entry in get_config(f"pretrain/{name}.py").dataloader.train.datasets}


def test_data():
    """Table 8; GLIPv2-T sees no image of COCO, on which it is tested zero-shot."""
    assert datasets("glipv2_t") == {
        "objects365_train", "goldg_mixed_no_coco_train", "goldg_flickr_train", "cap4m_train",
    }  # fmt: skip
    five = {
        "objects365_train", "coco_2017_train", "openimages_train", "visual_genome_train",
        "imagenet_boxes_train",
    }  # fmt: skip
    gold = {"goldg_mixed_train", "goldg_flickr_train"}
    assert datasets("glipv2_b") == datasets("glipv2_h") == five | gold | {"cc15m_sbu_train"}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_stage_leaves_out_the_pairs_and_goes_on_from_the_first(name):
    first = SECOND[name]
    assert datasets(name) == datasets(first) - PAIRS
    assert datasets(name) & GOLD
    train, before = (get_config(f"pretrain/{n}.py").train for n in (name, first))
    assert train.init_checkpoint == f"{before.output_dir}/model_final.pth"
    assert train.output_dir != before.output_dir


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_to_be_filled_in(name):
    assert not OmegaConf.missing_keys(get_config(f"pretrain/{name}.py"))


@pytest.mark.parametrize(
    "path",
    [*(f"pretrain/{name}.py" for name in NAMES), *(f"mask/glipv2_{x}_mask.py" for x in "tbh")],
)
def test_the_weights_tell_their_config(path):
    """What an error about weights of another model names as the config to give."""
    model = get_config(path).model
    model.language_backbone.pretrained = False
    with torch.device("meta"):
        state = instantiate(model).state_dict()
    assert published_config(state) == path
    # A variant of one's own is none of them.
    rest = {name: value for name, value in state.items() if not name.startswith("contrast.")}
    assert published_config(rest) in (None, "pretrain/glip_t.py")
