"""Evaluation recipes with a model that is not theirs, through the documented command line."""

import json
from collections import Counter

import pytest
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog

from glip_commands.train import parse
from glipv2_d2.compat import launch
from glipv2_d2.engine.evaluate import pair_test_sets
from glipv2_d2.engine.setup import load_config
from glipv2_d2.errors import ConfigError, DataError
from glipv2_d2.modeling import SwinBackbone
from glipv2_d2.modeling.fusion import VLTower
from tests.support import benchmark_tree as tree
from tests.support import recording_run
from tests.support.tiny_data import CONFIG

# Every command of the documentation is run in test_evaluation_page.py.

pytestmark = pytest.mark.usefixtures("tiny_data")  # of the config


@pytest.fixture(scope="module")
def benchmarks_root(tmp_path_factory):
    """Every benchmark, the catalogs with it."""
    root = tmp_path_factory.mktemp("datasets")
    for make in (tree.coco, tree.lvis, tree.flickr30k, tree.refcoco, tree.phrasecut, tree.odinw):
        make(root)
    with tree.catalogs_at(root):
        yield root


@pytest.fixture
def evaluate_recipe(run_train_net, tiny_weights):
    """evaluate(recipe, *options) -> (results, output folder)."""

    def run(recipe, *options, output="run"):
        folder = run_train_net(
            "--eval", f"configs/eval/{recipe}.py", "--eval-only",
            f"train.init_checkpoint={tiny_weights}", "evaluation.num_workers=0", *options,
            output=output,
        )  # fmt: skip
        return json.loads((folder / "last_results.json").read_text()), folder

    return run


def load(*options):
    """The config of a command line."""
    command = ["--config-file", str(CONFIG), "--num-gpus", "0", *options]
    return load_config(parse(command))


def first_prompts(loader):
    return next(iter(instantiate(loader)))[0]["prompt"]


def test_coco(benchmarks_root, evaluate_recipe):
    results, folder = evaluate_recipe("coco")
    assert {"AP", "AP50", "APs"} <= set(results["bbox"])
    rows = json.loads((folder / "inference/coco_instances_results.json").read_text())
    assert {row["image_id"] for row in rows} == {139, 140, 141}
    again, other = evaluate_recipe("coco", "evaluation.batch_size=3", output="batch")
    assert again["bbox"] == pytest.approx(results["bbox"], nan_ok=True)
    others = json.loads((other / "inference/coco_instances_results.json").read_text())
    assert len(others) == pytest.approx(len(rows), abs=2)  # ties with the last of 100


def test_lvis_minival_goes_through_the_backbone_once_an_image(
    benchmarks_root, evaluate_recipe, monkeypatch
):
    backbone, tower = [], []

    def counting(owner, calls, count):
        forward = owner.forward

        def spy(self, *args):
            calls.append(count(*args))
            return forward(self, *args)

        monkeypatch.setattr(owner, "forward", spy)

    counting(SwinBackbone, backbone, len)
    counting(VLTower, tower, lambda features, text: len(features[0]))
    results, folder = evaluate_recipe("lvis_minival", "model.prompt_batch_size=5")
    assert {"AP", "APr", "APc", "APf"} <= set(results["bbox_fixed"])
    assert backbone == [1, 1]  # two images
    assert tower == 2 * [5, 5, 5, 5, 5, 5, 1]  # 31 prompts of at most 40 of the 1,203 names
    rows = json.loads((folder / "inference/lvis_instances_results.json").read_text())
    per_image = Counter(row["image_id"] for row in rows)
    assert set(per_image) == {139, 140}
    assert all(300 < count for count in per_image.values())  # no limit for an image


def test_lvis_val(benchmarks_root):
    config = load("--eval", "configs/eval/lvis_val.py", "--eval-only")
    evaluator = instantiate(config.dataloader.evaluator)
    assert (evaluator.ap, evaluator.dataset_name) == ("standard", "lvis_v1_val")
    prompts = first_prompts(config.dataloader.test)
    assert [len(prompt) for prompt in prompts] == 30 * [40] + [3]
    assert [i for prompt in prompts for i in prompt.class_ids] == list(range(1203))
    assert prompts[0].caption.startswith("aerosol can. air conditioner. airplane. ")


def test_flickr30k_with_one_and_two_processes(
    benchmarks_root, evaluate_recipe, monkeypatch, tiny_weights, tmp_path
):
    results, folder = evaluate_recipe("flickr30k", output="one")
    assert set(results) == {"flickr30k_separate_val", "flickr30k_separate_test"}
    for split, groups in results.items():
        assert set(groups) == {"flickr30k_any", "flickr30k_merged"}
        assert "R@1-people" in groups["flickr30k_any"]  # of Flickr30k Entities
        rows = json.loads((folder / f"inference/{split}/{split}_predictions.json").read_text())
        assert [row["caption"] for row in rows] == [tree.CAPTION] * 2
    tables = json.loads((folder / "results.json").read_text())[0]["tables"]  # those printed
    assert [table["columns"][:2] for table in tables] == [["category", "phrases"]] * 4
    assert sum("merged box" in table["title"] for table in tables) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(benchmarks_root))  # for processes that start anew
    args = parse(
        ["--config-file", str(CONFIG), "--eval", "configs/eval/flickr30k.py", "--eval-only"]
        + ["--num-gpus", "0", "--num-processes", "2", f"train.init_checkpoint={tiny_weights}"]
        + ["evaluation.num_workers=0", f"train.output_dir={tmp_path / 'two'}"]
    )
    launch(recording_run.main, 0, num_processes=2, args=(args,), dist_url="auto")
    assert json.loads((tmp_path / "two/last_results.json").read_text()) == results
    for path in (folder / "inference").glob("*/*_predictions.json"):
        assert (tmp_path / "two" / path.relative_to(folder)).read_text() == path.read_text()


def test_refcoco(benchmarks_root, evaluate_recipe):
    results, folder = evaluate_recipe("refcoco")
    assert len(results) == 8
    assert all(set(groups["refexp"]) == {"P@1", "P@5", "P@10"} for groups in results.values())
    assert len(list((folder / "inference").glob("*/*_predictions.json"))) == 8


def test_phrasecut(benchmarks_root, evaluate_recipe, caplog):
    results, _ = evaluate_recipe("phrasecut", "evaluation.score_threshold=0.2")
    assert set(results) == {"phrasecut_box_as_mask", "phrasecut_box"}
    assert "refer_json" not in caplog.text  # the authors' file is used where it is
    assert MetadataCatalog.get("phrasecut_val").refer_json == str(
        benchmarks_root / "phrasecut/refer_val.json"
    )


def test_odinw_prompts(benchmarks_root):
    asked = {}
    for suite, told in ((13, True), (13, False), (35, True), (35, False)):
        options = ("--eval", f"eval/odinw{suite}.py", f"evaluation.caption_knowledge={told}")
        tests = pair_test_sets(load("--eval-only", *options).dataloader)
        assert len(tests) == 2 * suite
        asked[suite, told] = first_prompts(tests["odinw_pothole_test"][0])[0]
    assert asked[35, True].caption == "there are some holes on the road"
    assert asked[35, True].names == ("pothole",)
    assert asked[13, False].caption == asked[35, False].caption == "pothole"
    defaults = {n: load("--eval", f"eval/odinw{n}.py").evaluation for n in (13, 35)}
    assert not defaults[13].caption_knowledge and defaults[35].caption_knowledge
    tests = load("--eval", "eval/odinw35.py").dataloader.further_tests
    assert first_prompts(tests.odinw35_CottontailRabbits_test.test)[0].caption == "rabbit"
    single = load("--eval", "eval/odinw.py", "evaluation.dataset=odinw_CottontailRabbits")
    test = single.dataloader.further_tests.test.test
    assert first_prompts(test)[0].caption == "Cottontail-Rabbit"
    parallel = load("--eval", "eval/odinw13.py", "model.chunk_size=1").dataloader.further_tests
    assert len(first_prompts(parallel.odinw_Aquarium_test.test)) == 7


def test_a_recipe_serves_the_evaluations_of_a_training(benchmarks_root, run_train_net):
    folder = run_train_net(
        "--eval", "configs/eval/coco.py", "evaluation.num_workers=0", "train.max_iter=2",
        "train.eval_period=1", "train.best_metric=bbox/AP", "model.head.prior_prob=0.5",
    )  # fmt: skip
    assert (folder / "inference/coco_instances_results.json").is_file()
    assert (folder / "model_best.pth").is_file()


def test_a_recipe_replaces_all_test_sets_of_the_config(benchmarks_root):
    options = ("--config-file", "demo/scenes.py", "--eval", "eval/coco.py")
    assert [t.dataset for t, _ in pair_test_sets(load(*options).dataloader).values()] == [
        "coco_2017_val"
    ]


def test_fine_tuning_replaces_the_schedules_of_the_pre_training():
    for model in ("t_a", "t", "l"):
        options = ("--tune", "finetune/odinw.py", "odinw.name=pothole", "odinw.copies=8")
        config = load("--config-file", f"pretrain/glip_{model}.py", *options)
        assert not config.train.weight_decay_steps and not config.lr_multiplier.steps
        assert config.optimizer.weight_decay == 0.05
        assert config.optimizer.params.lr_by_prefix.language_backbone == 1e-5
        assert config.model.backbone.bottom_up.frozen_stages == 1
        assert config.dataloader.train.datasets == [["odinw_pothole_train", 8]]
        assert config.dataloader.train.mapper.shuffle is False
        assert config.dataloader.test.dataset == "odinw_pothole_val"


def test_missing_data_is_told_before_the_first_image(
    benchmarks_root, evaluate_recipe, run_train_net, tmp_path
):
    with tree.catalogs_at(tmp_path):
        message = r"(?s)8 of 8 test sets are not on the disk.*refcoco_val: there is no .*refcocog"
        with pytest.raises(DataError, match=message):
            evaluate_recipe("refcoco")
        with pytest.raises(DataError, match="(?s)1 of 1 test sets.*coco_2017_val"):
            run_train_net("--eval", "configs/eval/coco.py", "train.eval_period=0")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--eval", "eval/nothing.py"], "no config file 'eval/nothing.py'"),
        (["--eval", "common/train.py"], "is no recipe: it defines no dataloader.test"),
        (["--config-file", "eval/coco.py"], "It is a recipe: give it as --eval or --tune"),
        (
            ["--config-file", "demo/scenes_mask_rcnn.py", "--eval", "eval/coco.py"],
            "sets model.chunk_size, which this config does not have",
        ),
    ],
)
def test_what_does_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        load(*options)
