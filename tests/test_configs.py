"""Every shipped config loads; the models of the papers build at their full size, on `meta`, with
the official weights' names and shapes; the recipes hold the official values."""

import ast
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from glipv2_d2.checkpoint import convert_official_glip
from glipv2_d2.config import get_config
from tools.parity.generated_weights import manifest

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAVES = sorted(p.relative_to(CONFIGS) for p in CONFIGS.rglob("*.py") if "common" not in p.parts)
TINY = ("glip_t_a", "glip_t_b", "glip_t_c", "glip_t")


def build_on_meta(name):
    model = get_config(f"pretrain/{name}.py").model
    model.language_backbone.pretrained = False
    with torch.device("meta"):
        return instantiate(model)


def imports(path):
    """The config files that one imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            yield folder.joinpath(*node.module.split(".")).with_suffix(".py")


def depth(path):
    return 1 + max(map(depth, imports(path)), default=0)


@pytest.mark.parametrize("path", LEAVES, ids=str)
def test_a_leaf_is_short_and_composes_from_common_only(path):
    path = CONFIGS / path
    assert all(CONFIGS / "common" in imported.parents for imported in imports(path))
    assert depth(path) <= 5
    docstring, *code = ast.parse(path.read_text()).body
    assert code[-1].end_lineno - docstring.end_lineno <= 25


# Those of eval/, those for ODinW and own_data.py are added to another one (--eval, --tune).
ADDED = ("odinw.py", "own_data.py")
WHOLE = [path for path in LEAVES if path.parts[0] != "eval" and path.name not in ADDED]


@pytest.mark.parametrize("path", WHOLE, ids=str)
def test_a_recipe_has_all_that_train_net_needs(path):
    config = LazyConfig.load(str(CONFIGS / path))
    for key in ("model", "dataloader", "optimizer", "lr_multiplier", "train", "inference"):
        assert key in config, f"{path} defines no {key}"
    assert config.train.output_dir != "./output", f"{path} would write over other runs"
    # A ${key} that is not there, or a value left as ???, would end a run when it is asked for.
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("path", [path for path in LEAVES if path not in WHOLE], ids=str)
def test_a_recipe_that_is_added_brings_its_data(path):
    assert "dataloader" in LazyConfig.load(str(CONFIGS / path))


# Parameters of the official state dicts without `cls_logits`, which training and inference ignore.
@pytest.mark.parametrize(
    ("name", "official", "parameters"),
    [
        ("glip_t_a", "glip_t_a", 151_409_966),
        ("glip_t_b", "glip_t", 231_759_662),
        ("glip_t_c", "glip_t", 231_759_662),
        ("glip_t", "glip_t", 231_759_662),
        ("glip_l", "glip_l", 430_401_824),
    ],
)
def test_official_weights_fill_the_model_exactly(name, official, parameters):
    model = build_on_meta(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    weights = {
        entry.name: torch.empty(entry.shape, dtype=getattr(torch, entry.dtype), device="meta")
        for entry in manifest(official)
    }
    converted = {key: value.shape for key, value in convert_official_glip(weights).items()}
    own = {key: value.shape for key, value in model.state_dict().items()}
    assert converted == own


def test_deep_fusion_is_what_a_lacks():
    model = build_on_meta("glip_t_a")
    assert not [name for name, _ in model.named_parameters() if "fusion" in name]


def test_glip_l_freezes_the_patch_embedding_and_the_first_stage():
    frozen = {
        ".".join(name.split(".")[2:4])
        for name, p in build_on_meta("glip_l").backbone.named_parameters("m")
        if not p.requires_grad
    }
    assert frozen == {"patch_embed.proj", "patch_embed.norm", "stages.0"}


SAME = object()
MODEL, TRAIN, TEST = "model.", "dataloader.train.", "dataloader.test."
# Official key (of the yaml files, else of defaults.py), ours, value in GLIP-T, value in GLIP-L.
OFFICIAL = [
    ("SWINT.EMBED_DIM", MODEL + "backbone.bottom_up.embed_dim", 96, 192),
    ("SWINT.DEPTHS", MODEL + "backbone.bottom_up.depths", (2, 2, 6, 2), (2, 2, 18, 2)),
    ("SWINT.NUM_HEADS", MODEL + "backbone.bottom_up.num_heads", (3, 6, 12, 24), (6, 12, 24, 48)),
    ("SWINT.WINDOW_SIZE", MODEL + "backbone.bottom_up.window_size", 7, 12),
    ("SWINT.DROP_PATH_RATE", MODEL + "backbone.bottom_up.drop_path_rate", 0.2, 0.4),
    # FREEZE_CONV_BODY_AT n freezes the patch embedding and n - 1 stages; 2 is the default.
    ("BACKBONE.FREEZE_CONV_BODY_AT", MODEL + "backbone.bottom_up.frozen_stages", -1, 1),
    ("BACKBONE.USE_CHECKPOINT", MODEL + "backbone.bottom_up.use_checkpoint", False, SAME),
    ("BACKBONE.OUT_CHANNELS", MODEL + "backbone.out_channels", 256, SAME),
    ("FPN.DROP_PROB", MODEL + "backbone.drop_block", 0.3, SAME),
    ("LANGUAGE_BACKBONE.MODEL_TYPE", MODEL + "language_backbone.model", "bert-base-uncased", SAME),
    ("LANGUAGE_BACKBONE.FREEZE", MODEL + "language_backbone.frozen", False, SAME),
    ("LANGUAGE_BACKBONE.N_LAYERS", MODEL + "language_backbone.num_layers_averaged", 1, SAME),
    ("LANGUAGE_BACKBONE.MAX_QUERY_LEN", MODEL + "language_backbone.max_tokens", 256, SAME),
    ("LANGUAGE_BACKBONE.LANG_DIM", MODEL + "head.text_channels", 768, SAME),
    ("DYHEAD.CHANNELS", MODEL + "neck.channels", 256, SAME),
    ("DYHEAD.NUM_CONVS", MODEL + "neck.num_blocks", 6, 8),
    ("DYHEAD.USE_CHECKPOINT", MODEL + "neck.use_checkpoint", True, SAME),
    ("DYHEAD.LOG_SCALE", MODEL + "head.log_scale", 0.0, SAME),
    ("DYHEAD.PRIOR_PROB", MODEL + "head.prior_prob", 0.01, SAME),
    ("DYHEAD.TOPK", MODEL + "losses.matcher.top_k", 9, SAME),
    ("FUSE_CONFIG.TOKEN_ALPHA", MODEL + "losses.alpha", 0.25, SAME),
    ("FUSE_CONFIG.TOKEN_GAMMA", MODEL + "losses.gamma", 2.0, SAME),
    ("FUSE_CONFIG.DOT_PRODUCT_TOKEN_LOSS_WEIGHT", MODEL + "losses.token_weight", 1.0, SAME),
    ("ATSS.REG_LOSS_WEIGHT", MODEL + "losses.box_weight", 2.0, SAME),
    ("ATSS.INFERENCE_TH", MODEL + "postprocessor.score_threshold", 0.05, SAME),
    ("ATSS.PRE_NMS_TOP_N", MODEL + "postprocessor.topk_candidates", 1000, SAME),
    ("ATSS.NMS_TH", MODEL + "postprocessor.nms_threshold", 0.6, SAME),
    ("ATSS.DETECTIONS_PER_IMG", MODEL + "postprocessor.detections_per_prompt", 100, SAME),
    ("BBOX_REG_WEIGHTS", MODEL + "losses.box_coder.weights", (10, 10, 5, 5), SAME),
    ("RPN.ANCHOR_STRIDE", MODEL + "anchor_generator.strides", (8, 16, 32, 64, 128), SAME),
    (
        "RPN.ANCHOR_SIZES", MODEL + "anchor_generator.sizes",
        ([64], [128], [256], [512], [1024]), SAME,
    ),
    ("RPN.ASPECT_RATIOS", MODEL + "anchor_generator.aspect_ratios", ([1.0],), SAME),
    ("INPUT.PIXEL_MEAN", MODEL + "pixel_mean", (103.530, 116.280, 123.675), SAME),
    ("INPUT.PIXEL_STD", MODEL + "pixel_std", (57.375, 57.120, 58.395), SAME),
    ("INPUT.TO_BGR255", MODEL + "input_format", "BGR", SAME),
    ("INPUT.MIN_SIZE_TEST", "inference.min_size", 800, SAME),
    ("INPUT.MAX_SIZE_TEST", "inference.max_size", 1333, SAME),
    ("INPUT.MIN_SIZE_TEST", TEST + "mapper.augmentations[0].short_edge_length", 800, SAME),
    (
        "AUGMENT.MULT_MIN_SIZE_TRAIN", TRAIN + "mapper.augmentations[0].short_edge_length",
        (480, 560, 640, 720, 800), SAME,
    ),
    ("INPUT.MAX_SIZE_TRAIN", TRAIN + "mapper.augmentations[0].max_size", 1333, SAME),
    ("DATASETS.RANDOM_SAMPLE_NEG", TRAIN + "mapper.max_classes", 85, SAME),
    ("DATASETS.CONTROL_PROB", TRAIN + "mapper.full_prompt_prob", 0.5, SAME),
    ("DATALOADER.ASPECT_RATIO_GROUPING", TRAIN + "aspect_ratio_grouping", True, SAME),
    ("SOLVER.IMS_PER_BATCH", TRAIN + "total_batch_size", 64, SAME),
    ("DATASETS.TEST", TEST + "dataset", "coco_2017_val", SAME),
    ("SOLVER.BASE_LR", "optimizer.lr", 1e-4, SAME),
    ("SOLVER.LANG_LR", "optimizer.params.lr_by_prefix.language_backbone", 1e-5, SAME),
    ("SOLVER.BIAS_LR_FACTOR", "optimizer.params.bias_lr_factor", 2.0, SAME),
    ("SOLVER.WEIGHT_DECAY", "optimizer.weight_decay", 1e-4, 1e-2),
    ("SOLVER.WEIGHT_DECAY_BIAS", "optimizer.params.weight_decay_bias", 0.0, SAME),
    (
        "SOLVER.WEIGHT_DECAY_SCHEDULE", "train.weight_decay_steps",
        (), (0.667 * 0.67, 0.667 * 0.89),
    ),
    ("SOLVER.STEPS", "lr_multiplier.steps", (0.67, 0.89), SAME),
    ("SOLVER.GAMMA", "lr_multiplier.gamma", 0.1, SAME),
    ("SOLVER.WARMUP_ITERS", "lr_multiplier.warmup_iters", 2000, SAME),
    ("SOLVER.WARMUP_FACTOR", "lr_multiplier.warmup_factor", 0.001, SAME),
    ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "train.clip_grad", 1.0, SAME),
    ("SOLVER.USE_AMP", "train.amp.enabled", True, False),
    ("SOLVER.MODEL_EMA", "train.ema.enabled", True, False),
    ("SOLVER.MODEL_EMA", "train.ema.decay", 0.999, SAME),
    ("SOLVER.FIND_UNUSED_PARAMETERS", "train.ddp.find_unused_parameters", False, SAME),
]  # fmt: skip


@pytest.mark.parametrize("name", [*TINY, "glip_l"])
def test_recipes_hold_the_official_values(name):
    config = get_config(f"pretrain/{name}.py")
    differing = []
    for official, key, tiny, large in OFFICIAL:
        wanted = tiny if name in TINY or large is SAME else large
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        value = OmegaConf.select(config, key)
        value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        value = list(value) if isinstance(value, tuple) else value
        if value != wanted:
            differing.append(f"{key} is {value}, {official} is {wanted}")
    assert not differing


@pytest.mark.parametrize(
    ("name", "epochs", "images"),
    [
        ("glip_t_a", 30, 609_000),
        ("glip_t_b", 30, 609_000),
        ("glip_t_c", 30, 609_000 + 621_000 + 148_000),
        ("glip_t", 30, 609_000 + 621_000 + 148_000),
    ],
)
def test_length_of_training(name, epochs, images):
    iterations = get_config(f"pretrain/{name}.py").train.max_iter
    assert iterations == pytest.approx(epochs * images / 64, rel=0.005)


def test_glip_l_trains_a_million_iterations():
    assert get_config("pretrain/glip_l.py").train.max_iter == 1_000_000


def training_sets(name):
    entries = get_config(f"pretrain/{name}.py").dataloader.train.datasets
    return [entry if isinstance(entry, str) else entry[0] for entry in entries]


def test_training_sets():
    assert training_sets("glip_t_a") == training_sets("glip_t_b") == ["objects365_train"]
    gold = ["goldg_mixed_no_coco_train", "goldg_flickr_train"]
    assert training_sets("glip_t_c") == training_sets("glip_t") == ["objects365_train", *gold]
    assert set(gold) < set(training_sets("glip_l"))


@pytest.mark.parametrize("name", [*TINY, "glip_l"])
def test_no_training_set_shows_images_of_the_zero_shot_test(name):
    """COCO's own annotations, and the captions of its images."""
    assert not {"coco_2017_train", "goldg_mixed_train"} & set(training_sets(name))
