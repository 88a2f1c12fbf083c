"""The recipes of fine-tuning on boxes and masks: what they hold, start from, and one step."""

import functools
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import OmegaConf

from glipv2_d2.config import get_config, resolve_config
from glipv2_d2.engine.setup import require_masks
from tests.support import benchmark_tree as tree
from tests.support.tiny import tiny_config, tiny_masks_config

# Samples of an epoch; epochs of T, and of B and H. Those of COCO and of all masks are Appendix
# D.2's, the others are chosen.
TASKS = {
    "coco": (118_287, 24, 5),
    "lvis": (100_170, 24, 5),
    "flickr30k": (149_000, 12, 3),
    "mask_coco": (118_287, 24, 5),
    "mask_lvis": (100_170, 24, 5),
    "mask_phrasecut": (310_816, 12, 3),
}
GLIPV2 = {f"glipv2_{size}_{task}": (size, task) for size in "tbh" for task in TASKS}
# With what they go on from.
GLIP = {"glip_t_coco": "pretrain/glip_t.py", "glip_l_coco": "pretrain/glip_l.py"}
ALL = [*GLIPV2, *GLIP]


# Read once for all tests, which only look at them.
load = functools.cache(get_config)


def recipe(name):
    return load(f"finetune/{name}.py")


def before(name):
    """The recipe whose last checkpoint it starts from."""
    if name in GLIP:
        return load(GLIP[name])
    size, task = GLIPV2[name]
    if task.startswith("mask_"):
        return load(f"mask/glipv2_{size}_mask.py")
    return load(f"pretrain/glipv2_{size}{'' if size == 'h' else '_stage2'}.py")


def test_every_recipe_is_tested():
    folder = Path(resolve_config("finetune/odinw.py")).parent
    assert {path.stem for path in folder.glob("*.py")} - {"odinw", "own_data"} == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_rate_and_length(name):
    """Appendix D.2; GLIP-T: the authors' command for COCO, whose batch is taken for all."""
    size, task = GLIPV2.get(name, (name.split("_")[1], "coco"))
    samples, epochs_of_t, epochs_of_others = TASKS[task]
    config = recipe(name)
    assert config.optimizer.lr == (1e-5 if size == "t" else 5e-6)
    assert config.optimizer.params.lr_by_prefix == {}  # the language backbone, too
    assert config.dataloader.train.total_batch_size == 32
    epochs = config.train.max_iter * 32 / samples
    assert epochs == pytest.approx(epochs_of_t if size == "t" else epochs_of_others, abs=1e-3)
    assert tuple(config.lr_multiplier.steps) == (0.67, 0.89)


@pytest.mark.parametrize("name", ALL)
def test_the_whole_model_goes_on_from_the_stage_before(name):
    first, config = before(name), recipe(name)
    assert config.train.init_checkpoint == f"{first.train.output_dir}/model_final.pth"
    assert config.train.trained_parts is None
    own, model = (OmegaConf.to_container(c.model) for c in (config, first))
    # The losses of pre-training end with it.
    assert {own.pop(head, None) for head in ("contrast", "mlm_head")} == {None}
    for head in ("contrast", "mlm_head"):
        model.pop(head, None)
    assert own == model


@pytest.mark.parametrize("name", ALL)
def test_data(name):
    config = recipe(name)
    require_masks(config)
    train, masks = config.dataloader.train, "_mask_" in name
    assert train.mapper.use_masks is masks is (config.model.get("mask_head") is not None)
    assert train.mapper.shuffle is False
    assert {*train.datasets, config.dataloader.test.dataset} <= set(DatasetCatalog.list())
    assert all(name.endswith("_train") for name in train.datasets)


def test_no_run_writes_over_another_one():
    folders = [recipe(name).train.output_dir for name in ALL]
    folders += [before(name).train.output_dir for name in ALL]
    assert len(set(folders)) == len(ALL) + len({before(name).train.output_dir for name in ALL})


@pytest.fixture(scope="module")
def training_files(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    tree.coco(root, split="train2017")
    tree.lvis(root, splits=["train"])
    tree.flickr30k(root, splits=["train"])
    tree.phrasecut(root, splits=["train"])
    with tree.catalogs_at(root):
        yield root


# Those of B and H are these with other sizes and rates.
@pytest.mark.parametrize("name", [name for name in ALL if "_t_" in name])
def test_a_step_on_files_in_their_real_formats(name, training_files):
    config, masks = recipe(name).copy(), "_mask_" in name
    model = tiny_masks_config() if masks else tiny_config()
    model._target_ = config.model._target_
    config.model = model
    loader = config.dataloader.train
    loader.total_batch_size, loader.num_workers, loader.mapper.augmentations = 2, 0, []
    torch.manual_seed(0)
    model = instantiate(config.model).train()
    config.optimizer.params.model = model
    optimizer = instantiate(config.optimizer)
    losses = model(next(iter(instantiate(loader))))
    expected = {"loss_token", "loss_box", "loss_centerness", *(["loss_mask"] if masks else [])}
    assert losses.keys() == expected
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    before = {name: value.clone() for name, value in model.named_parameters()}
    sum(losses.values()).backward()
    optimizer.step()
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert {name.split(".")[0] for name in moved} == {name.split(".")[0] for name in before}
