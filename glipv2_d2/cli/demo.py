"""`glip demo`: the trained model at work, then the same model trained for some minutes."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from .. import model_zoo
from ..checkpoint import load_weights, read_safetensors_metadata
from ..config import get_config
from ..engine.evaluate import evaluate_test_sets, pair_test_sets
from ..engine.predictor import GroundingPredictor
from ..errors import UsageError, UserError
from ..modeling.devices import resolve_device
from ..scenes.answered_questions import wording_oracle
from ..scenes.build import build_scenes
from ..scenes.oracles import composition_oracles
from .demo_pictures import NUM_PICTURES, draw_sheet, show_pictures
from .demo_report import draw_loss, loss_summary, plain_numbers, write_summary


class DemoModel(NamedTuple):
    """The name in the model zoo, what makes it, the config that is trained, and the folder."""

    config: str
    name: str
    made: str
    training: str
    output: str


MODELS = {
    "glip": DemoModel(
        config="configs/demo/scenes.py",
        name="glip_scenes",
        made="`make train-demo`",
        training="configs/demo/scenes.py",
        output="output/demo_glip",
    ),
    "glipv2": DemoModel(
        config="configs/demo/scenes_glipv2_mask.py",
        name="glipv2_scenes",
        made="the commands of docs/vl_understanding.md",
        training="configs/demo/scenes_glipv2_vl.py",
        output="output/demo",
    ),
}
# Below so many iterations the demo is a test of the machinery, and uses fewer images, too.
QUICK_ITERS, QUICK_IMAGES = 100, 100
# Where the data sets are registered.
DATA = Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
# Questions and captions of each test set: a part that two cores get through in a minute.
MOST_TEXTS = 200
BATCH_SIZE = 8  # of the training
# Before and after the short training: enough images to see that it learns.
CHECK_IMAGES = 100


class Stopwatch:
    """Seconds by name, and headings on the console."""

    def __init__(self):
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def total(self) -> float:
        return time.perf_counter() - self.start

    @contextmanager
    def step(self, name: str, heading: str):
        print(f"\n=== [{self.total():4.0f} s] {heading}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)


def _glip(*words: str) -> None:
    """Show a `glip` command and run it; a failure ends the demo."""
    shown = shlex.join(["glip", *words])
    print(f"$ {shown}", flush=True)
    status = subprocess.run([sys.executable, "-m", "glip_commands", *words], check=False).returncode
    if status:
        raise UserError(f"`{shown}` failed with status {status}")


def _print_progress(done: int, total: int) -> None:
    if done % (total // 10) == 0:
        print(f"{done}/{total} images", flush=True)


def load_test_config(path: str, output: Path, images: int | None):
    """The config `path` with its test sets cut down to their first records.

    Args:
        path, output: of the config; for the cut annotation files.
        images: records of each test set; None: all images, and `MOST_TEXTS` questions and captions.

    Returns:
        (config, names of the data sets by test set: "val", "novel", and those of a GLIPv2).
    """
    config = get_config(path)
    names = {}
    for loader, _ in pair_test_sets(config.dataloader).values():
        key = loader.dataset.removeprefix("scenes_")
        count = images if images or key in ("val", "novel") else MOST_TEXTS
        if count is not None:
            loader.dataset = register_first(loader.dataset, count, output / "quick")
        names[key] = loader.dataset
    config.train.output_dir = str(output / "evaluation")
    return config, names


def register_first(name: str, count: int, folder: Path) -> str:
    """Register the first records of a data set as a data set of their own; returns its name."""
    part = f"{name}_first_{count}"
    metadata = MetadataCatalog.get(name)
    if part in DatasetCatalog.list():
        return part
    if metadata.evaluator_type != "coco":
        DatasetCatalog.register(part, lambda: DatasetCatalog.get(name)[:count])
        MetadataCatalog.get(part).set(evaluator_type=metadata.evaluator_type)
        return part
    content = json.loads(Path(metadata.json_file).read_text(encoding="utf-8"))
    content["images"] = content["images"][:count]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    more = {"evaluated_classes": metadata.evaluated_classes}
    register_coco_instances(part, more, str(path), metadata.image_root)
    return part


def use(config, names, args, watch: Stopwatch) -> dict:
    """The first half: shipped weights on pictures and on the test sets."""
    print(f"weights: {args.weights}")
    for key, value in read_safetensors_metadata(args.weights).items():
        print(f"  {key}: {value}")
    model = instantiate(config.model).to(config.train.device)
    load_weights(model, args.weights)
    inference = config.inference
    predictor = GroundingPredictor(
        model,
        min_size=inference.min_size,
        max_size=inference.max_size,
        score_threshold=inference.score_threshold,
        merge_iou=inference.merge_iou,
        batch_size=NUM_PICTURES,
    )
    pictures = show_pictures(predictor, names, args.output / "pictures")
    watch.seconds["first_pictures"] = round(watch.total(), 1)
    print(f"pictures: {args.output / 'pictures'}")

    results = dict(zip(names, evaluate_test_sets(config.dataloader, model).values()))
    known: list[dict] = []
    for key, name in names.items():
        records = DatasetCatalog.get(name)
        results[key]["records"] = len(records)
        results[key]["of"] = len(DatasetCatalog.get(f"scenes_{key}"))
        if "vqa" in results[key]:
            known = known or DatasetCatalog.get("scenes_train_vqa_grounding")
            oracle = wording_oracle(known, records)
            results[key]["wording_oracle"] = {k: 100 * share for k, share in oracle.items()}
    results["novel"]["oracle"] = composition_oracles(names["novel"])
    draw_sheet(
        Path(config.train.output_dir) / "inference_novel" / "coco_instances_results.json",
        names["novel"],
        inference.merge_iou,
        inference.score_threshold,
        args.output / "contact_sheet.jpg",
    )
    return {"tests": results, "pictures": pictures}


def train(config, args) -> dict:
    """The second half: a model from scratch, through `glip train`."""
    folder = args.output / "training"
    path = MODELS[args.model].training
    seed_all_rng(config.train.seed)
    model = instantiate(get_config(path).model).to(config.train.device)
    only_val = config.copy()
    del only_val.dataloader.further_tests
    some = register_first(only_val.dataloader.test.dataset, CHECK_IMAGES, args.output / "quick")
    only_val.dataloader.test.dataset = some
    before = evaluate_test_sets(only_val.dataloader, model)["bbox"]["AP50"]

    shutil.rmtree(folder, ignore_errors=True)  # of an earlier demo
    _glip(
        "train", "--config-file", path,
        "--num-gpus", "1" if config.train.device == "cuda" else "0", "train.init_checkpoint=",
        "train.trained_parts=null", f"dataloader.train.total_batch_size={BATCH_SIZE}",
        f"train.max_iter={args.iters}", f"train.output_dir={folder}", "train.eval_period=-1",
        "train.log_period=10",
        f"lr_multiplier.warmup_iters={max(1, args.iters // 10)}",
    )  # fmt: skip
    for checkpoint in folder.glob("model_[0-9]*.pth"):
        checkpoint.unlink()  # 200 MB each, to go on with what is finished
    load_weights(model, folder / "model_final.pth")
    after = evaluate_test_sets(only_val.dataloader, model)["bbox"]["AP50"]
    curve = draw_loss(folder / "metrics.json", args.output / "loss.png", before, after)
    return {
        "config": path,
        "iterations": args.iters,
        "batch_size": BATCH_SIZE,
        "images": len(DatasetCatalog.get(some)),
        "loss": loss_summary(curve),
        "val": {"before": {"bbox": {"AP50": before}}, "after": {"bbox": {"AP50": after}}},
    }


def _settled(args: argparse.Namespace) -> argparse.Namespace:
    """The options, with the defaults of the model filled in.

    Raises:
        UsageError: its weights are not there. ConfigError: the device is not.
    """
    model = MODELS[args.model]
    if args.images is None and args.iters < QUICK_ITERS:
        args.images = QUICK_IMAGES
    args.output = (args.output or Path(model.output)).resolve()
    args.weights = args.weights or model_zoo.find_weights(model.name)
    if not args.weights.is_file():
        raise UsageError(
            f"there are no weights '{args.weights}': a clone has them, made by {model.made}"
        )
    args.device = resolve_device(args.device)
    return args


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    args = _settled(args)
    for name in ("detectron2", "glipv2_d2"):
        setup_logger(name=name)
    args.output.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    with watch.step("render", "1/3 The data: rendered from a seed"):
        build_scenes(DATA / "scenes", progress=_print_progress)
    config, names = load_test_config(MODELS[args.model].config, args.output, args.images)
    config.train.device = args.device
    with watch.step("use", "2/3 Use: the shipped weights on pictures and test sets"):
        metrics = use(config, names, args, watch)
    pictures = metrics.pop("pictures")
    with watch.step("train", f"3/3 Train from scratch, {args.iters} iterations"):
        metrics["train"] = train(config, args)
    watch.seconds["total"] = round(watch.total(), 1)
    metrics["seconds"] = watch.seconds
    metrics["model"] = "GLIPv2" if args.model == "glipv2" else "GLIP"
    metrics["made"] = MODELS[args.model].made
    metrics["quick"] = args.images is not None
    metrics["machine"] = {
        "device": config.train.device, "cpus": os.cpu_count(), "torch": str(torch.__version__)
    }  # fmt: skip
    path = args.output / "metrics.json"
    path.write_text(json.dumps(plain_numbers(metrics), indent=1), encoding="utf-8")
    notes = read_safetensors_metadata(args.weights)
    print("\n" + write_summary(metrics, notes, pictures, args.output / "README.md"))
    print(f"\nwrote {args.output / 'README.md'} and {path}")
    return 0
