"""Every evaluator with a small random data set and predictions for it, the same in any process."""

import contextlib
import json

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_lvis_instances
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.language import Prompt
from tests.support import lvis_sets

HEIGHT, WIDTH = lvis_sets.HEIGHT, lvis_sets.WIDTH
KINDS = ("coco", "lvis", "lvis_fixed", "flickr30k", "refexp", "phrasecut", "gated_f1", "vqa")
CAPTION_KINDS = ("caption", "grounded_caption")
IMAGES = 7
# Asked of every image by the benchmark "vqa": the dog, and the answer.
QUESTION = Prompt.from_caption(
    "how many see the dog? [MASK]", [[(17, 20)], [(22, 28)]], kind="question"
)


def instances(boxes, scores, classes=None, masks=None, size=(HEIGHT, WIDTH)):
    """Predictions of one image from lists; boxes are x0, y0, x1, y1."""
    result = Instances(size)
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(classes or [0] * len(boxes), dtype=torch.int64)
    if masks is not None:
        stacked = np.array(masks, dtype=bool).reshape(-1, *size)
        result.pred_masks = torch.from_numpy(stacked)
    return result


def record(image_id, boxes, caption="a red kite above a dog", phrases=(((2, 10),),), **fields):
    """A grounding record; `boxes` are (x0, y0, x1, y1) or (box, phrase index)."""
    annotations = []
    for entry in boxes:
        box, phrase = entry if len(entry) == 2 else (entry, 0)
        x0, y0, x1, y1 = box
        annotations.append(
            {
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "bbox_mode": BoxMode.XYWH_ABS,
                "spans": [list(span) for span in phrases[phrase]],
                "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
            }
        )
    return {
        "file_name": f"{image_id}.jpg",
        "image_id": image_id,
        "height": HEIGHT,
        "width": WIDTH,
        "caption": caption,
        "phrases": [[list(span) for span in spans] for spans in phrases],
        "annotations": annotations,
        **fields,
    }


@contextlib.contextmanager
def registered(name, records, kind, **metadata):
    """A data set of records in the catalogs, as long as the context lasts."""
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(evaluator_type=kind, **metadata)
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@contextlib.contextmanager
def benchmark(kind, folder):
    """(registered name, options of the evaluator, {image id: Instances}) of one of KINDS.

    Of CAPTION_KINDS {image id: the whole output}.
    """
    name = f"small_{kind}"
    if kind in ("coco", "lvis", "lvis_fixed"):
        content = lvis_sets.random_lvis(11, images=IMAGES)
        outputs = lvis_sets.random_outputs(content, 11, per_image=10, masks=True)
        path = folder / f"{name}_{comm.get_rank()}.json"
        options = {"ap": "fixed"} if kind == "lvis_fixed" else {}
        if kind == "coco":
            for annotation in content["annotations"]:
                annotation["iscrowd"] = 0
            for image in content["images"]:
                image["file_name"] = f"{image['id']}.jpg"
            path.write_text(json.dumps({"info": {}, **content}))
            register_coco_instances(name, {}, str(path), str(folder))
        else:
            path.write_text(json.dumps(content))
            register_lvis_instances(name, {}, str(path), str(folder))
        try:
            yield name, options, outputs
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        return
    draw = {"vqa": _random_questions} | dict.fromkeys(CAPTION_KINDS, _random_captions)
    records, outputs = draw[kind]() if kind in draw else _random_grounding(kind)
    with registered(name, records, kind):
        yield name, {}, outputs


def _random_grounding(kind):
    rng = np.random.default_rng(12)
    two = kind in ("flickr30k", "gated_f1")
    phrases = (((2, 10),), ((19, 22),)) if two else (((0, 22),),)
    records, outputs = [], {}
    for number in range(IMAGES):
        count = 1 if kind == "refexp" else int(rng.integers(2, 5))
        boxes = []
        for _ in range(count):
            x, y, w, h = lvis_sets.random_box(rng)
            boxes.append(((x, y, x + w, y + h), int(rng.integers(len(phrases)))))
        image_id = 100 - 3 * number
        records.append(record(image_id, boxes, phrases=phrases, task_id=f"{image_id}__0"))
        near = [boxes[rng.integers(count)][0] for _ in range(6)]
        found = np.array(near) + rng.uniform(-9, 9, (6, 4)) * rng.choice([0.1, 1], (6, 1))
        scores = np.round(rng.random(6) * 8) / 8  # with ties
        outputs[image_id] = instances(
            found.tolist(), scores.tolist(), rng.integers(len(phrases), size=6).tolist()
        )
    return records, outputs


def _random_questions():
    """The answer is how many boxes are found, which some of ten people agree with."""
    rng = np.random.default_rng(13)
    records, outputs = [], {}
    for number in range(IMAGES):
        x, y, w, h = lvis_sets.random_box(rng)
        image_id = 200 - number
        boxes = [((x, y, x + w, y + h), k) for k in range(2)]
        human = [str(n) for n in rng.integers(3, 6, 10)]
        fields = {"answer_type": "number", "question_type": f"how {number % 2}"}
        fields |= {"task": "question", "question_id": image_id, "human_answers": human}
        phrases = QUESTION.spans
        records.append(record(image_id, boxes, QUESTION.caption, phrases, **fields))
        count = int(rng.integers(3, 6))
        found = np.array([[x, y, x + w, y + h]]) + rng.uniform(-9, 9, (count, 4))
        classes = rng.integers(2, size=count).tolist()
        outputs[image_id] = instances(found.tolist(), rng.random(count).tolist(), classes)
    return records, outputs


def written(caption, spans, boxes=(), scores=(), classes=None):
    """The output of a model that wrote a caption and found boxes of its phrases (`spans`)."""
    prompt = Prompt.from_caption(caption, [[span] for span in spans], kind="caption")
    found = instances(list(boxes), list(scores), classes)
    return {"caption": caption, "prompt": prompt, "instances": found}


def _random_captions():
    """Images with two reference captions whose phrases have boxes, and captions written for them,
    some of their words and boxes wrong, one empty."""
    rng = np.random.default_rng(13)
    records, outputs = [], {}
    for number in range(IMAGES):
        image_id = 200 - 3 * number
        boxes = []
        for _ in range(2):
            x, y, w, h = lvis_sets.random_box(rng)
            boxes.append((x, y, x + w, y + h))
        texts = [
            f"a red {thing} above two {others}"
            for thing, others in (
                ("kite", "dogs"),
                (rng.choice(["kite", "bird"]), rng.choice(["dogs", "men"])),
            )
        ]
        references = []
        for text in texts:
            ends = 2 + text[2:].index(" above"), len(text)
            phrases = (((2, ends[0]),), ((ends[0] + 7, ends[1]),))
            references.append(record(0, list(zip(boxes, (0, 1))), text, phrases))
        image = record(image_id, [], task="caption", references=texts)
        for key in ("caption", "phrases", "annotations"):
            del image[key]
        records.append({**image, "grounded_references": references})
        thing = str(rng.choice(["kite", "bird", "boat"]))
        caption = f"a red {thing} above two dogs"
        spans = [(2, 6 + len(thing)), (len(caption) - 8, len(caption))]
        near = np.array(boxes)[[0, 0, 1]] + rng.uniform(-9, 9, (3, 4)) * rng.choice(
            [0.1, 1], (3, 1)
        )
        outputs[image_id] = written(caption, spans, near.tolist(), rng.random(3), [0, 0, 1])
    outputs[image_id] = written("", [])
    return records, outputs


def evaluate(evaluator, outputs, batch=1, ids=None):
    """The evaluator's result after the images in this order and in batches."""
    ids = list(outputs) if ids is None else ids
    evaluator.reset()
    for start in range(0, len(ids), batch):
        chunk = ids[start : start + batch]
        evaluator.process(
            [{"image_id": i} for i in chunk], [whole_output(outputs[i]) for i in chunk]
        )
    return evaluator.evaluate()


def whole_output(found):
    """A model's output for an image: these instances, or what is whole already."""
    if not isinstance(found, Instances):
        return found
    return {"instances": found, "answer": str(len(found)), "prompt": QUESTION}


def evaluate_all(folder):
    """Every benchmark, shared out over the processes; files go to `folder/<kind>`."""
    rank, world = comm.get_rank(), comm.get_world_size()
    results = {}
    for kind in KINDS + CAPTION_KINDS:
        with benchmark(kind, folder) as (name, options, outputs):
            evaluator = build_evaluator(name, str(folder / kind), **options)
            mine = list(outputs)[rank::world]
            results[kind] = evaluate(evaluator, outputs, ids=mine, batch=2)
            again = evaluator.evaluate()
            assert repr(again) == repr(results[kind])  # nothing was used up
    results["missing"] = _message_of_a_lost_image(folder)
    (folder / f"results_{rank}.json").write_text(json.dumps(results))


def _message_of_a_lost_image(folder):
    """What every process says when one of them did not evaluate its last image."""
    with benchmark("refexp", folder) as (name, _, outputs):
        evaluator = build_evaluator(name)
        try:
            evaluate(
                evaluator, outputs, ids=list(outputs)[:-1][comm.get_rank() :: comm.get_world_size()]
            )
        except ValueError as error:
            return str(error)
    return ""
