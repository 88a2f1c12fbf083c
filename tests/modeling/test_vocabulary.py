"""Class numbers and the names they stand for, where Detectron2's own loaders bring the numbers."""

import random

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from glipv2_d2.errors import ConfigError, PromptError
from glipv2_d2.language.negatives import DROPPED_POSITIVES
from tests.support.tiny import (
    tiny_glipv2_config,
    tiny_input,
    tiny_masks_config,
    tiny_masks_input,
    tiny_model,
)
from tests.support.yacs_door import NAMES, register_sets, tiny_cfg

MANY = [f"thing number {i}" for i in range(300)]  # 1,500 tokens in one prompt


def known(**sets):
    """Puts the classes of data sets into the catalog."""
    for dataset, classes in sets.items():
        MetadataCatalog.get(dataset).thing_classes = list(classes)


def stock_input(classes, **options):
    """What Detectron2's DatasetMapper leaves of an image: numbers, no names."""
    boxes = [(4 + i % 40, 6, 40 + i % 50, 50) for i in range(len(classes))]
    inputs = tiny_input(boxes=boxes, classes=classes, **options)
    del inputs["prompt"]
    return inputs


def asked(vocabulary, inputs):
    """The name of each box as the model is taught it."""
    given = vocabulary.with_prompt(inputs)
    return [given["prompt"].names[k] for k in given["instances"].gt_classes.tolist()]


def test_boxes_keep_their_names_whatever_is_asked_around_them():
    known(many=MANY)
    vocabulary = tiny_model(training_datasets="[many]").training_vocabulary
    inputs = stock_input([7, 299, 7, 0])
    random.seed(0)
    prompts = set()
    for _ in range(5):
        assert asked(vocabulary, inputs) == [MANY[7], MANY[299], MANY[7], MANY[0]]
        prompts.add(vocabulary.with_prompt(inputs)["prompt"].names)
    assert len(prompts) == 5  # other negatives each time
    # What is given stays as it is, and nothing is counted as lost.
    assert inputs["instances"].gt_classes.tolist() == [7, 299, 7, 0] and "prompt" not in inputs
    assert vocabulary.dropped_boxes == 0


def test_names_that_do_not_fit_one_prompt_are_counted(caplog):
    known(many=MANY)
    vocabulary = tiny_model(training_datasets="[many]").training_vocabulary
    given = vocabulary.with_prompt(stock_input(list(range(300))))
    kept = given["instances"]
    assert 40 < len(kept) < 100 and len(kept) == len(kept.gt_boxes) == len(given["prompt"])
    assert vocabulary.dropped_boxes == (lost := 300 - len(kept))
    assert f"{DROPPED_POSITIVES}: {lost} so far (image_0.png)" in caplog.text
    caplog.clear()
    vocabulary.with_prompt(stock_input(list(range(300))))
    assert vocabulary.dropped_boxes > lost and not caplog.text  # the next line is due at 1,000


def test_the_same_seed_asks_the_same():
    known(many=MANY)
    vocabulary = tiny_model(training_datasets="[many]").training_vocabulary
    drawn = []
    for seed in (3, 3, 4):
        random.seed(seed)
        drawn.append(vocabulary.with_prompt(stock_input([5]))["prompt"])
    assert drawn[0] == drawn[1] != drawn[2]


def test_only_classes_that_are_verified_to_be_absent_are_negatives_of_federated_data():
    known(federated=MANY)
    MetadataCatalog.get("federated").evaluator_type = "lvis"  # ids in the file begin at 1
    vocabulary = tiny_model(training_datasets="[federated]").training_vocabulary
    inputs = {**stock_input([4]), "neg_category_ids": [1, 9]}
    seen = {n for _ in range(20) for n in vocabulary.with_prompt(inputs)["prompt"].names}
    assert seen == {MANY[4], MANY[0], MANY[8]}


def test_a_model_trains_on_numbers_of_many_classes():
    known(many=MANY)
    model = tiny_model(training_datasets="[many]").train()
    losses = model([stock_input([3, 250]), stock_input([], seed=1)])
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_box"] > 0


@pytest.mark.parametrize("masks", [False, True])
def test_glipv2_trains_on_numbers_of_many_classes(masks):
    known(many=MANY)
    config = tiny_masks_config() if masks else tiny_glipv2_config()
    config.training_datasets = ["many"]
    torch.manual_seed(0)
    model = instantiate(config).train()
    inputs = tiny_masks_input(classes=(3, 250))
    del inputs["prompt"]
    losses = model([inputs])
    assert set(losses) > ({"loss_mask"} if masks else {"loss_contrast", "loss_mlm"})
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("class_id", [3, -1])
def test_a_number_that_no_class_has(class_id):
    known(three=NAMES)
    model = tiny_model(training_datasets="[three]").train()
    with pytest.raises(PromptError, match=f"class id {class_id} is unknown.* 3 names"):
        model([stock_input([0, class_id])])


def test_numbers_without_names_are_refused(shared_model, model):
    model.set_vocabulary(NAMES)  # of what is detected; nobody said what is trained on
    with pytest.raises(PromptError, match=r"DATASETS\.TRAIN.*model\.training_datasets.*none"):
        model.train()([stock_input([0])])


def test_a_caption_without_its_prompt_is_refused():
    known(three=NAMES)
    vocabulary = tiny_model(training_datasets="[three]").training_vocabulary
    with pytest.raises(PromptError, match=r"image_0\.png has a caption.*GroundingDatasetMapper"):
        vocabulary.with_prompt({**stock_input([0]), "caption": "a red heart"})


# The yacs door


def test_boxes_are_taught_by_the_names_of_the_training_set(tmp_path):
    """The same classes in another order for the test: `gt_classes` 0 is "red heart", not a moon."""
    sets = {"door_train": (NAMES, NAMES[:2]), "door_test": (NAMES[::-1], NAMES[:1])}
    register_sets(tmp_path, **sets)
    model = build_model(tiny_cfg(tmp_path, train=("door_train",), test=("door_test",)))
    assert asked(model.training_vocabulary, stock_input([0, 2])) == ["red heart", "red moon"]
    assert [p.names for p in model.vocabulary_prompts] == [NAMES[::-1]]


def test_a_training_set_with_fewer_classes_than_the_test_set(tmp_path):
    sets = {"door_train": (NAMES[:2], NAMES[:2]), "door_test": (NAMES[1:], NAMES[1:])}
    register_sets(tmp_path, **sets)
    model = build_model(tiny_cfg(tmp_path, train=("door_train",), test=("door_test",)))
    assert asked(model.training_vocabulary, stock_input([1, 0])) == ["blue star", "red heart"]


@pytest.mark.parametrize("key", ["train", "test"])
def test_sets_with_different_classes_are_refused_when_the_model_is_built(tmp_path, key):
    known(door_a=NAMES, door_b=NAMES[::-1], door_c=NAMES[:2])
    cfg = tiny_cfg(tmp_path, **{key: ("door_a", "door_b")})
    with pytest.raises(
        ConfigError, match="'door_a' and 'door_b' .*class 0 is 'red heart' and 'red moon'"
    ):
        build_model(cfg)
    with pytest.raises(ConfigError, match="'door_a' and 'door_c' .*3 and 2 classes"):
        build_model(tiny_cfg(tmp_path, **{key: ("door_a", "door_c")}))


def test_test_sets_that_were_not_read_are_compared_too(tmp_path):
    sets = {"door_test": (NAMES, NAMES[:1]), "door_other": (NAMES[::-1], NAMES[:1])}
    register_sets(tmp_path, **sets)
    with pytest.raises(ConfigError, match="'door_test' and 'door_other' have different"):
        build_model(tiny_cfg(tmp_path, test=("door_test", "door_other")))


def test_training_sets_that_were_not_read_are_compared_at_the_first_step(tmp_path):
    """Building a model for inference reads no training data, which need not even be there."""
    sets = {"door_train": (NAMES, NAMES[:1]), "door_other": (NAMES[::-1], NAMES[:1])}
    register_sets(tmp_path, **sets)
    model = build_model(tiny_cfg(tmp_path, train=("door_train", "door_other")))
    with pytest.raises(ConfigError, match="'door_train' and 'door_other' have different"):
        model.train()([stock_input([0])])


def test_a_vocabulary_of_the_config_that_is_not_the_test_sets_is_refused(tmp_path):
    known(door_a=NAMES)
    config = tiny_masks_config(vocabulary=["cat", "dog"])
    with pytest.raises(ConfigError, match="'door_a' differ .*class 0 is 'cat' and 'red heart'"):
        build_model(tiny_cfg(tmp_path, config, test=("door_a",)))
