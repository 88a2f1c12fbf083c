"""Small random LVIS data sets and predictions, and AP computed the long way."""

import functools
import json

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

HEIGHT, WIDTH = 150, 200
THRESHOLDS = [round(0.5 + 0.05 * i, 2) for i in range(10)]


def random_lvis(seed, images=12, classes=6, masks=True):
    """An LVIS json (dict): federated labels, gaps in the ids, several sizes, equal boxes."""
    rng = np.random.default_rng(seed)
    content = {"images": [], "annotations": [], "categories": []}
    for c in range(classes):
        content["categories"].append(
            {"id": c + 1, "name": f"thing_{c}", "frequency": "rcf"[c % 3], "synonyms": []}
        )
    for i in range(images):
        image_id = 7 * i + 3
        kinds = rng.permutation(classes)
        positive, negative = kinds[:2], kinds[2:4]  # the others are unknown in this image
        content["images"].append(
            {
                "id": image_id,
                "height": HEIGHT,
                "width": WIDTH,
                "coco_url": f"http://x/val2017/{image_id:012d}.jpg",
                "neg_category_ids": [int(c) + 1 for c in negative],
                "not_exhaustive_category_ids": [int(positive[0]) + 1] if rng.random() < 0.4 else [],
            }
        )
        for c in positive:
            for _ in range(rng.integers(1, 5)):
                box = random_box(rng)
                content["annotations"].append(annotation(content, image_id, int(c) + 1, box))
                if rng.random() < 0.2:  # the same object annotated twice
                    content["annotations"].append(annotation(content, image_id, int(c) + 1, box))
    return content


def random_box(rng):
    size = rng.choice([8.0, 30.0, 60.0, 130.0])
    w, h = np.minimum(np.round(size * rng.uniform(0.6, 1.4, 2)), HEIGHT - 1)
    x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
    return [float(np.round(v)) for v in (x, y, w, h)]


def annotation(content, image_id, category_id, box):
    x, y, w, h = box
    return {
        "id": len(content["annotations"]) + 1,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": 0.8 * w * h,  # LVIS's areas are those of the masks
        "segmentation": [[x, y, x + w, y, x + w, y + h, x + 0.2 * w, y + h]],
    }


def random_outputs(content, seed, per_image=25, masks=False, ties=True):
    """Instances per image id: near the truth, of wrong classes, elsewhere; scores often equal."""
    rng = np.random.default_rng(seed)
    classes = len(content["categories"])
    outputs = {}
    for image in content["images"]:
        truth = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes, labels = [], []
        for _ in range(per_image):
            target = truth[rng.integers(len(truth))] if rng.random() < 0.7 else None
            box = target["bbox"] if target else random_box(rng)
            x, y, w, h = np.array(box) + rng.choice([0, 0, 1, 3]) * rng.uniform(-1, 1, 4)
            right = target is not None and rng.random() < 0.8
            labels.append(target["category_id"] - 1 if right else int(rng.integers(classes)))
            boxes.append([x, y, x + max(w, 1), y + max(h, 1)])
        scores = rng.random(per_image)
        if ties:
            scores = np.round(scores * 8) / 8
        outputs[image["id"]] = make_instances(boxes, scores, labels, masks)
    return outputs


def make_instances(boxes, scores, labels, masks=False):
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(np.array(scores), dtype=torch.float32)
    instances.pred_classes = torch.tensor(np.array(labels), dtype=torch.int64)
    if masks:
        instances.pred_masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.pred_masks, boxes):
            mask[int(max(y0, 0)) : int(y1), int(max(x0, 0)) : int((x0 + 3 * x1) / 4)] = True
    return instances


def as_results(outputs, per_class=None, per_image=None):
    """LVIS results (category ids from 1), cut to the best of each class or of each image.

    Equal scores are ordered by image id, then by the order in the image.
    """
    rows = []
    for image_id in sorted(outputs):
        found = outputs[image_id]
        mine = []
        for k in range(len(found)):
            x0, y0, x1, y1 = found.pred_boxes.tensor[k].numpy()  # widths in float32, as stored
            mine.append(
                {
                    "image_id": image_id,
                    "category_id": int(found.pred_classes[k]) + 1,
                    "bbox": [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "score": float(found.scores[k]),
                    "mask": found.pred_masks[k].numpy() if found.has("pred_masks") else None,
                }
            )
        if per_image is not None:
            mine = sorted(mine, key=lambda r: -r["score"])[:per_image]
        rows += mine
    if per_class is None:
        return rows
    kept = []
    for category in sorted({r["category_id"] for r in rows}):
        of_class = [r for r in rows if r["category_id"] == category]
        kept += sorted(of_class, key=lambda r: -r["score"])[:per_class]
    return kept


def brute_force(content, results, masks=False):
    """LVIS's metrics (fractions), one class, size, IoU threshold and detection after the other."""
    images = {image["id"]: image for image in content["images"]}
    table = {}
    for category in content["categories"]:
        for size in ("all", "s", "m", "l"):
            for threshold in THRESHOLDS:
                table[category["id"], size, threshold] = _one_precision(
                    content, images, results, category["id"], size, threshold, masks
                )

    def mean(sizes=("all",), thresholds=THRESHOLDS, frequencies="rcf"):
        ids = [c["id"] for c in content["categories"] if c["frequency"] in frequencies]
        values = [table[i, s, t] for i in ids for s in sizes for t in thresholds]
        values = [v for v in values if v is not None]
        return float(np.mean(values)) if values else float("nan")

    metrics = {"AP": mean(), "AP50": mean(thresholds=[0.5]), "AP75": mean(thresholds=[0.75])}
    metrics.update({f"AP{size}": mean(sizes=(size,)) for size in "sml"})
    metrics.update({f"AP{group}": mean(frequencies=group) for group in "rcf"})
    return metrics


def _in_range(area, size):
    low, high = {"all": (0, 1e10), "s": (0, 1024), "m": (1024, 9216), "l": (9216, 1e10)}[size]
    return low <= area <= high


def _one_precision(content, images, results, category, size, threshold, masks):
    """The mean of the precisions at 101 recalls; None without objects."""
    outcomes, total = [], 0  # (score, hit) in the order of the images
    for image_id in sorted(images):
        image = images[image_id]
        truth = _of(content["annotations"], image_id, category)
        total += sum(_in_range(a["area"], size) for a in truth)
        if not truth and category not in image["neg_category_ids"]:
            continue  # nobody looked for this class here
        found = sorted(_of(results, image_id, category), key=lambda r: -r["score"])
        free = list(truth)
        for detection in found:
            target = _best_target(detection, free, size, threshold, masks)
            if target is not None:
                free.remove(target)
                if _in_range(target["area"], size):
                    outcomes.append((detection["score"], True))
            elif category not in image["not_exhaustive_category_ids"]:
                w, h = detection["bbox"][2:]
                if _in_range(detection["mask"].sum() if masks else w * h, size):
                    outcomes.append((detection["score"], False))
    if not total:
        return None
    outcomes.sort(key=lambda outcome: -outcome[0])  # stable
    hits, points = 0, []
    for position, (_, hit) in enumerate(outcomes, start=1):
        hits += hit
        points.append((hits / total, hits / position))
    recalls = np.linspace(0, 1, 101)
    return float(np.mean([max([p for r, p in points if r >= x], default=0.0) for x in recalls]))


def _of(rows, image_id, category):
    return [r for r in rows if (r["image_id"], r["category_id"]) == (image_id, category)]


def _best_target(detection, free, size, threshold, masks):
    """The free object with the best overlap; one of another size only if no other fits."""
    for counted in (True, False):
        best, best_overlap = None, threshold
        for target in free:
            if _in_range(target["area"], size) == counted:
                overlap = _overlap(detection, target, masks)
                if overlap >= best_overlap:
                    best, best_overlap = target, overlap
        if best is not None:
            return best
    return None


def _overlap(detection, target, masks):
    if masks:
        corners = tuple(target["segmentation"][0])
        first, second = detection["mask"], _true_mask(corners)
        return (first & second).sum() / (first | second).sum()
    (x, y, w, h), (u, v, s, t) = detection["bbox"], target["bbox"]
    inner = max(min(x + w, u + s) - max(x, u), 0) * max(min(y + h, v + t) - max(y, v), 0)
    return inner / (w * h + s * t - inner)


@functools.lru_cache(maxsize=1000)
def _true_mask(corners):
    """A polygon's pixels, from pycocotools: rasterizing is no part of what is tested."""
    rle = mask_util.frPyObjects([list(corners)], HEIGHT, WIDTH)[0]
    return mask_util.decode([rle])[..., 0].astype(bool)


def write_lvis(content, path):
    path.write_text(json.dumps(content))
    return str(path)
