"""The demo's pictures: what a model finds, answers and writes on images of the test sets."""

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from ..engine.predictor import GroundingPredictor
from ..engine.results import keep_best_phrase
from ..language.prompt import MASK, Prompt
from ..scenes.contact_sheet import draw_contact_sheet, sheet_items
from .ask import answering
from .caption import captioning
from .detection.images import Ask, detecting, process

NUM_PICTURES = 4  # of each test set


class Picture(NamedTuple):
    """A picture, relative to the folder of all, and what to say of it."""

    path: str
    text: str


def show_pictures(
    predictor: GroundingPredictor, names: Mapping[str, str], output: Path
) -> dict[str, list[Picture]]:
    """Draw what the model does with a few images of each test set.

    Args:
        predictor: of the model.
        names: data sets by short name: `val` and `novel`, which are asked for all their names; and
            perhaps, of both, questions (`val_vqa_grounding`) and captions to be written
            (`val_grounded_caption`).
        output: the folder; what an earlier run left there goes.

    Returns:
        The pictures of `names`, `caption` (one that is given), `questions` and `captions`.
    """
    shutil.rmtree(output, ignore_errors=True)
    shown: dict[str, list[Picture]] = defaultdict(list)
    for key, name in names.items():
        if key.endswith("_vqa_grounding"):
            shown["questions"] += _questions(predictor, name, output, key)
        elif key.endswith("_grounded_caption"):
            shown["captions"] += _captions(predictor, name, output, key)
        else:
            shown["names"] += _names(predictor, name, output, key)
    shown["caption"] = _given_caption(predictor, output)
    return shown


def draw_sheet(results: Path, name: str, iou: float, score_threshold: float, target: Path) -> None:
    """Draw truth and the best phrase of each object side by side, for twelve images.

    Args:
        results: `coco_instances_results.json` of an evaluation on the data set `name`.
        iou: see `keep_best_phrase`.
        score_threshold: results below it are not drawn.
        target: the picture.
    """
    drawn = best_phrases(json.loads(results.read_text(encoding="utf-8")), iou)
    draw_contact_sheet(sheet_items(name, drawn, 12, score_threshold)).save(target, quality=90)


def best_phrases(results: list[dict], iou: float) -> list[dict]:
    """Of COCO results that overlap in an image the best one, as the pictures show them."""
    by_image = defaultdict(list)
    for result in results:
        by_image[result["image_id"]].append(result)
    kept = []
    for found in by_image.values():
        boxes = torch.tensor([result["bbox"] for result in found])
        instances = Instances((0, 0))  # the size of the image plays no role here
        instances.pred_boxes = Boxes(torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1))
        instances.scores = torch.tensor([result["score"] for result in found])
        instances.row = torch.arange(len(found))
        kept += [found[i] for i in keep_best_phrase(instances, iou).row.tolist()]
    return kept


def _names(predictor: GroundingPredictor, name: str, output: Path, folder: str) -> list[Picture]:
    files = _first_files(name)  # reading them fills in the names of their classes
    classes = list(MetadataCatalog.get(name).thing_classes)
    images = _draw(detecting(predictor, classes), files, output / folder)
    return [Picture(f"{folder}/{i['picture']}", f"all names, {folder}") for i in images]


def _given_caption(predictor: GroundingPredictor, output: Path) -> list[Picture]:
    captions = DatasetCatalog.get("scenes_val_grounding")
    record = next((r for r in captions if " left of " in r["caption"]), captions[0])
    spans = [annotation["spans"] for annotation in record["annotations"]]
    prompt = Prompt.from_caption(record["caption"], spans)
    images = _draw(detecting(predictor, prompt), [record["file_name"]], output / "caption")
    return [Picture(f"caption/{i['picture']}", record["caption"]) for i in images]


def _questions(
    predictor: GroundingPredictor, name: str, output: Path, folder: str
) -> list[Picture]:
    """The first question of each type."""
    first: dict[str, dict] = {}
    for record in DatasetCatalog.get(name):
        first.setdefault(record["question_type"], record)
    pictures = []
    for kind, record in sorted(first.items()):
        question = record["caption"].removesuffix(MASK).strip()
        place = f"{folder}/{kind.replace('/', '_')}"  # several may be about one image
        images = _draw(answering(predictor, question), [record["file_name"]], output / place)
        true = max(record["answers"], key=record["answers"].__getitem__)
        pictures += [
            Picture(f"{place}/{i['picture']}", f"{question} {i['answer']} (true: {true})")
            for i in images
        ]
    return pictures


def _captions(predictor: GroundingPredictor, name: str, output: Path, folder: str) -> list[Picture]:
    images = _draw(captioning(predictor), _first_files(name), output / folder)
    return [Picture(f"{folder}/{i['picture']}", i["caption"]) for i in images]


def _first_files(name: str) -> list[str]:
    return [record["file_name"] for record in DatasetCatalog.get(name)[:NUM_PICTURES]]


def _draw(ask: Ask, files: list[str], folder: Path) -> list[dict]:
    """The report's records of the images that have a picture; what failed is told."""
    report = process(ask, files, folder, batch_size=NUM_PICTURES)
    return [image for image in report["images"] if image["picture"] is not None]
