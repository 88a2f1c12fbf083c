"""The recipes of GLIPv2 hold what the paper states, and its models have the parts they name."""

import functools
import itertools
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.checkpoint import load_weights, published_config, read_checkpoint
from glipv2_d2.checkpoint.fit import excused_keys
from glipv2_d2.checkpoint.merging import is_position
from glipv2_d2.config import get_config
from glipv2_d2.modeling import GLIPv2

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "glipv2_scenes.safetensors"

# The recipes of one model, in the order in which they are run (Appendix D.1; docs/glipv2.md).
CHAINS = (
    ("pretrain/glipv2_t.py", "pretrain/glipv2_t_stage2.py", "mask/glipv2_t_mask.py"),
    ("pretrain/glipv2_b.py", "pretrain/glipv2_b_stage2.py", "mask/glipv2_b_mask.py"),
    ("pretrain/glipv2_h.py", "mask/glipv2_h_mask.py"),
    (
        "demo/scenes_glipv2.py",
        "demo/scenes_glipv2_stage2.py",
        "demo/scenes_glipv2_vl.py",
        "demo/scenes_glipv2_mask.py",
    ),
)
PAIRS = [pair for chain in CHAINS for pair in itertools.pairwise(chain)]
PUBLISHED = [path for chain in CHAINS[:3] for path in chain]
SECOND = [chain[:2] for chain in CHAINS if len(chain) >= 3]
MASKS = [chain[-1] for chain in CHAINS]


# Read and built once for all tests, which only look at them.
recipe = functools.lru_cache(get_config)


@functools.lru_cache
def on_meta(path):
    model = recipe(path).model.copy()
    model.language_backbone.pretrained = False
    with torch.device("meta"):
        return instantiate(model)


def mix(path):
    """Data sets of a recipe, and how often an epoch each image of them is seen."""
    return dict(tuple(entry) for entry in recipe(path).dataloader.train.datasets)


@pytest.mark.parametrize(
    ("name", "vocabulary"), [("glipv2_t", 30522), ("glipv2_b", 49408), ("glipv2_h", 49408)]
)
def test_a_word_to_be_predicted_is_one_that_the_encoder_knows(name, vocabulary):
    model = on_meta(f"pretrain/{name}.py")
    assert isinstance(model, GLIPv2)
    assert model.tokenizer.max_tokens == 256
    assert all(p.ndim for p in model.parameters())  # train.fsdp cuts no scalars
    embedding = max(
        (p for p in model.language_backbone.parameters() if p.dim() == 2), key=lambda p: len(p)
    )
    assert len(embedding) == model.mlm_head.decoder.out_features == vocabulary


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
    config = recipe(f"pretrain/{name}.py")
    assert config.train.max_iter == steps
    assert config.dataloader.train.total_batch_size == 64
    assert config.optimizer.lr == 1e-4
    rates = config.optimizer.params.lr_by_prefix
    assert rates.get("language_backbone", config.optimizer.lr) == language_rate
    assert tuple(config.lr_multiplier.steps) == (0.67, 0.89) and config.lr_multiplier.gamma == 0.1


def test_data():
    """Table 8; GLIPv2-T sees no image of COCO, on which it is tested zero-shot."""
    assert mix("pretrain/glipv2_t.py").keys() == {
        "objects365_train", "goldg_mixed_no_coco_train", "goldg_flickr_train", "cap4m_train",
    }  # fmt: skip
    five = {
        "objects365_train", "coco_2017_train", "openimages_train", "visual_genome_train",
        "imagenet_boxes_train",
    }  # fmt: skip
    gold = {"goldg_mixed_train", "goldg_flickr_train"}
    assert mix("pretrain/glipv2_b.py").keys() == five | gold | {"cc15m_sbu_train"}
    assert mix("pretrain/glipv2_h.py") == mix("pretrain/glipv2_b.py")


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_stage_goes_on_from_the_one_before(before, after):
    first, second = recipe(before).train, recipe(after).train
    assert second.init_checkpoint == f"{first.output_dir}/model_final.pth"
    # Whatever is new in a stage are its task heads, and positions: all else comes from the file.
    own = {name: value.shape for name, value in on_meta(after).state_dict().items()}
    file = {name: value.shape for name, value in on_meta(before).state_dict().items()}
    new = own.items() - file.items()
    heads = {"mask_head"} if after in MASKS else set()
    heads = {"vqa_head", "caption_head"} if after.endswith("_vl.py") else heads
    positions = {name for name, _ in new if is_position(name)}
    assert bool(positions) == (after == "demo/scenes_glipv2_vl.py")
    assert {name.split(".")[0] for name, _ in new if name not in positions} == heads


def test_no_stage_writes_over_another_one():
    folders = [recipe(path).train.output_dir for chain in CHAINS for path in chain]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize(("first", "second"), SECOND)
def test_the_second_stage_masks_no_words_and_keeps_the_contrast(first, second):
    model = on_meta(second)
    assert model.mlm_head is None and model.contrast is not None
    assert on_meta(first).mlm_head is not None
    assert recipe(second).train.trained_parts is None


@pytest.mark.parametrize(("first", "second"), SECOND[:2])
def test_the_second_stage_leaves_out_the_pairs(first, second):
    pairs = {"cap4m_train", "cc15m_sbu_train"}
    assert mix(second) == {name: times for name, times in mix(first).items() if name not in pairs}
    assert len(mix(second)) == len(mix(first)) - 1


def test_the_demos_second_stage_sees_more_names_than_captions():
    first, second, *_ = CHAINS[3]
    assert mix(first) == {"scenes_train": 0.5, "scenes_train_grounding": 1.0}
    assert mix(second) == {"scenes_train": 1.0, "scenes_train_grounding": 0.4}
    assert not recipe(second).dataloader.train.mapper.get("use_masks", False)


@pytest.mark.parametrize("path", MASKS)
def test_the_mask_stage_trains_the_mask_head_alone(path):
    assert recipe(path).train.trained_parts == ["mask_head"]
    assert any(name.startswith("mask_head.") for name, _ in on_meta(path).named_parameters())
    assert recipe(path).dataloader.train.mapper.use_masks is True


def test_masks_are_learnt_from_coco_lvis_and_phrasecut():
    """Table 8 and Appendix D.1: 24, 24 and 8 epochs in batches of 64."""
    images = {"coco_2017_train": 118_287, "lvis_v1_train": 100_170, "phrasecut_train": 310_816}
    epochs = {"coco_2017_train": 24, "lvis_v1_train": 24, "phrasecut_train": 8}
    for path in MASKS[:3]:
        config = recipe(path)
        assert config.dataloader.train.total_batch_size == 64
        times = mix(path)
        assert {name: 24 * t for name, t in times.items()} == pytest.approx(epochs)
        drawn = sum(t * images[name] for name, t in times.items())
        assert config.train.max_iter * 64 / drawn == pytest.approx(24, rel=1e-3)
    assert mix(MASKS[3]) == {"scenes_train": 1.0}


@pytest.mark.parametrize(("path", "canonical"), [*((p, 224) for p in MASKS[:3]), (MASKS[3], 64)])
def test_masks_are_pooled_from_the_three_finest_levels(path, canonical):
    """Mask R-CNN's sizes: features of 14 x 14, masks of 28 x 28."""
    model = on_meta(path)
    pooler = model.mask_head.pooler
    assert tuple(pooler.output_size) == (14, 14) and model.mask_head.mask_size == 28
    strides = [level.stride for level in model.backbone.output_shape().values()][:3]
    assert strides == [8, 16, 32]
    assert [1 / level.spatial_scale for level in pooler.level_poolers] == strides
    assert (pooler.min_level, pooler.max_level) == (3, 5)
    assert (pooler.canonical_level, pooler.canonical_box_size) == (4, canonical)


def test_the_shipped_weights_are_those_of_the_demos_mask_stage():
    """All of them, and none too many; the frozen text encoder comes with its own."""
    model = instantiate(recipe("demo/scenes_glipv2_mask.py").model)
    load_weights(model, WEIGHTS)
    own, file = model.state_dict(), read_checkpoint(WEIGHTS)["model"]
    assert own.keys() - excused_keys(model) == file.keys()
    assert all(name.startswith("language_backbone.") for name in excused_keys(model))
    assert all(torch.equal(own[name], value.to(own[name])) for name, value in file.items())
    assert any(name.startswith("mask_head.") for name in file)


def test_the_presence_stage_goes_on_from_all_that_is_there():
    """And trains its head alone, on lists of names, whose absent ones are what it learns from."""
    before, stage = recipe("demo/scenes_glipv2_mask.py"), recipe("demo/scenes_glipv2_presence.py")
    assert stage.train.init_checkpoint == f"{before.train.output_dir}/model_final.pth"
    assert stage.train.trained_parts == ["presence_head"]
    assert mix("demo/scenes_glipv2_presence.py") == {"scenes_train": 1.0}
    own, file = on_meta("demo/scenes_glipv2_presence.py"), on_meta("demo/scenes_glipv2_mask.py")
    further = own.state_dict().keys() - file.state_dict().keys()
    assert further and all(name.startswith("presence_head.") for name in further)
    assert file.state_dict().keys() < own.state_dict().keys()


@pytest.mark.parametrize("path", PUBLISHED)
def test_the_weights_tell_their_config(path):
    """What an error about weights of another model names as the config to give."""
    state = on_meta(path).state_dict()
    assert published_config(state) == path
    # A variant of one's own is none of them.
    rest = {name: value for name, value in state.items() if not name.startswith("contrast.")}
    assert published_config(rest) in (None, "pretrain/glip_t.py")
