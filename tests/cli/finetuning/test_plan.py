"""The settings that are chosen by the data and the machine."""

import pytest
from detectron2.structures import BoxMode

from glipv2_d2.checkpoint import build_for_weights
from glipv2_d2.cli.finetuning import plan
from glipv2_d2.cli.finetuning.own_data import OwnData
from glipv2_d2.cli.finetuning.trial import Pace
from glipv2_d2.config import get_config
from glipv2_d2.engine.freezing import freeze_all_but

CPU = plan.Machine(gpus=0, processes=1, cpus=2, bf16=False)


def own_data(images, classes=2, size=(800, 600), box=(10, 10, 50, 40)):
    """`images` images of one size, the box in each of the class of its number."""
    records = [
        {
            "width": size[0],
            "height": size[1],
            "annotations": [
                {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": i % classes}
            ],
        }
        for i in range(images)
    ]
    return OwnData([f"c{i}" for i in range(classes)], records, records[:1], "", [])


@pytest.fixture(scope="module")
def config():
    """GLIP-T's. Do not change it."""
    return get_config("pretrain/glip_t.py")


def by_data(config, data, machine=CPU):
    return {s.topic: s for s in plan.settings_by_data(data, config, "full", machine)}


@pytest.mark.parametrize(("images", "batch"), [(1, 1), (3, 3), (500, 4), (5000, 8), (20_000, 16)])
def test_the_batch_follows_the_data(config, images, batch):
    assert by_data(config, own_data(images))["batch"].value == batch


def test_the_batch_is_divisible_by_the_processes(config):
    machine = plan.Machine(gpus=3, processes=3, cpus=12, bf16=True)
    settings = by_data(config, own_data(50), machine)
    assert settings["batch"].value == 6 and settings["workers"].value == 3


def test_the_precision_is_what_the_gpu_can(config):
    old = plan.Machine(gpus=1, processes=1, cpus=8, bf16=False)
    assert by_data(config, own_data(9), old)["precision"].value == "fp16"
    assert by_data(config, own_data(9), old._replace(bf16=True))["precision"].value == "bf16"
    assert not by_data(config, own_data(9))["precision"].key  # on CPU as the base


def test_small_boxes_are_told(config):
    assert "hard" not in by_data(config, own_data(9))["image size"].why
    # 2000 pixels are shown as 800.
    tiny = own_data(9, size=(2000, 2000), box=(5, 5, 30, 30))
    told = by_data(config, tiny)["image size"].why
    assert "100% of the boxes are smaller than 16 pixels" in told
    assert "inference.min_size=1600" in told


def test_many_classes_are_asked_in_chunks(config):
    chunked = config.copy()
    chunked.model.chunk_size = 40
    assert "in 8 prompts" in by_data(chunked, own_data(300, classes=300))["vocabulary"].why
    assert "vocabulary" not in by_data(chunked, own_data(300, classes=40))


def by_time(images, pace, minutes=None, max_iter=None, own_share=1.0, batch=4):
    settings = plan.settings_by_time(own_data(images), pace, batch, own_share, minutes, max_iter)
    return {s.key: s.value for s in settings}


def test_the_length_follows_the_data():
    quick = Pace(step=0.1, evaluation=0.1)
    hundred = by_time(100, quick)
    assert hundred["train.max_iter"] == 200 * 25  # GLIP's 200 epochs of few-shot data
    assert hundred["train.eval_period"] == 250  # twenty evaluations
    assert hundred["train.patience"] == {"lower_rate": 2, "stop": 4}  # 50 images of each class
    one = by_time(1, quick, batch=1)
    assert one["train.max_iter"] == 2000 and one["train.patience"]["stop"] == 8
    # Half of the images are replayed, so that it takes twice as long.
    assert by_time(100, quick, own_share=0.5)["train.max_iter"] == 2 * 200 * 25


@pytest.mark.parametrize("evaluation", [0.01, 20.0, 500.0])
def test_training_and_evaluations_fit_into_the_time(evaluation):
    pace = Pace(step=1.0, evaluation=evaluation)
    settings = by_time(10_000, pace, minutes=30)
    iterations, period = settings["train.max_iter"], settings["train.eval_period"]
    evaluations = -(-iterations // period)
    assert iterations * pace.step + evaluations * evaluation <= 30 * 60 * 1.05
    assert evaluations * evaluation <= max(0.4 * 30 * 60, evaluation)
    assert iterations >= 800


def test_iterations_that_are_asked_for():
    settings = by_time(100, Pace(1.0, 1.0), max_iter=7)
    assert settings["train.max_iter"] == 7 and settings["train.eval_period"] == 7


def test_time_is_short_on_a_cpu_alone():
    assert plan.minutes_for(None, CPU) == plan.CPU_MINUTES
    assert plan.minutes_for(5.0, CPU) == 5.0
    assert plan.minutes_for(None, CPU._replace(gpus=1)) is None


def test_what_is_replayed_is_half_of_all():
    mix = plan.replay_weights(30, [("a", 1.0, 1000), ("b", 0.5, 400)])
    seen = [weight * count for (_, weight), count in zip(mix, (1000, 400))]
    assert sum(seen) == pytest.approx(30, abs=0.01) and seen[0] / seen[1] == pytest.approx(5, 0.01)
    assert plan.replay_weights(30, []) == []


def test_a_mask_head_needs_masks():
    config = get_config("demo/scenes_glipv2_mask.py")
    config.train.trained_parts = None
    config.train.init_checkpoint = "weights/glipv2_scenes.safetensors"
    without = own_data(3)
    (setting,) = plan.parts(config, without)
    assert setting.key == "train.trained_parts" and "mask_head" not in setting.value
    assert {"backbone", "neck", "head", "vqa_head"} <= set(setting.value)
    model = build_for_weights(config.model, config.train.init_checkpoint)
    freeze_all_but(model, setting.value)  # there is something to train in each
    for record in without.train:
        record["annotations"][0]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    (setting,) = plan.parts(config, without)
    assert (setting.key, setting.value) == ("dataloader.train.mapper.use_masks", True)
    assert plan.parts(get_config("demo/scenes.py"), without) == []
