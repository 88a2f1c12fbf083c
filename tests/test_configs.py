"""Every shipped config loads; the models of the papers build at their full size, on `meta`."""

import shutil
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from transformers import BertConfig

from glipv2_d2.config import get_config
from glipv2_d2.modeling.text.resolve import resolve_pretrained
from tests.tiny import TOKENIZER_FILES

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAVES = sorted(p.relative_to(CONFIGS) for p in CONFIGS.rglob("*.py") if "common" not in p.parts)


@pytest.fixture(scope="module")
def bert_base_folder(tmp_path_factory):
    """BERT-base without weights: the shape and the vocabulary of bert-base-uncased."""
    folder = tmp_path_factory.mktemp("bert-base-uncased")
    for name in TOKENIZER_FILES:
        shutil.copy(Path(resolve_pretrained("minilm")) / name, folder)
    BertConfig().save_pretrained(folder)
    return str(folder)


def build_on_meta(name, bert_folder):
    model = get_config(f"pretrain/{name}.py").model
    model.language_backbone.model = bert_folder
    model.language_backbone.pretrained = False
    with torch.device("meta"):
        return instantiate(model)


@pytest.mark.parametrize("path", LEAVES, ids=str)
def test_a_recipe_has_all_that_train_net_needs(path):
    config = LazyConfig.load(str(CONFIGS / path))
    for key in ("model", "dataloader", "optimizer", "lr_multiplier", "train", "inference"):
        assert key in config, f"{path} defines no {key}"
    assert config.train.output_dir != "./output", f"{path} would write over other runs"


# Parameters of the official state dicts without `cls_logits`, which training and inference ignore.
@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("glip_t_a", 151_409_966),
        ("glip_t_b", 231_759_662),
        ("glip_t_c", 231_759_662),
        ("glip_t", 231_759_662),
        ("glip_l", 430_401_824),
    ],
)
def test_the_sizes_are_the_official_ones(name, official, bert_base_folder):
    model = build_on_meta(name, bert_base_folder)
    assert sum(p.numel() for p in model.parameters()) == official


def test_deep_fusion_is_what_a_lacks(bert_base_folder):
    model = build_on_meta("glip_t_a", bert_base_folder)
    assert not [name for name, _ in model.named_parameters() if "fusion" in name]


def test_glip_l_freezes_the_patch_embedding_and_the_first_stage(bert_base_folder):
    frozen = {
        ".".join(name.split(".")[2:4])
        for name, p in build_on_meta("glip_l", bert_base_folder).backbone.named_parameters("m")
        if not p.requires_grad
    }
    assert frozen == {"patch_embed.proj", "patch_embed.norm", "stages.0"}


def test_the_solver_is_the_official_one():
    config = get_config("pretrain/glip_t.py")
    assert config.optimizer.lr == 1e-4
    assert config.optimizer.params.lr_by_prefix["language_backbone"] == 1e-5
    assert config.optimizer.weight_decay == 1e-4
    assert config.train.clip_grad == 1.0
    assert config.train.ema.decay == 0.999
    assert list(config.lr_multiplier.steps) == [0.67, 0.89]
    assert config.lr_multiplier.warmup_iters == 2000
    assert config.dataloader.train.total_batch_size == 64
    assert config.dataloader.train.mapper.max_classes == 85
    sizes = config.dataloader.train.mapper.augmentations[0].short_edge_length
    assert list(sizes) == [480, 560, 640, 720, 800]
