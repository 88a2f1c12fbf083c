"""COCO json as four annotation tools write it, over three images: bolts and nuts, one of each in
the first two. Boxes and polygons are the same; ids, fields, file names and classes are theirs."""

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

HEIGHT, WIDTH = 60, 80
NAMES = ["bolt", "nut"]
# (image, class, x, y, w, h)
OBJECTS = [
    (0, 0, 5, 5, 20, 30),
    (0, 1, 40, 10, 30, 40),
    (1, 0, 10, 20, 40, 35),
    (1, 1, 60, 1, 19, 9),
]


def write_images(folder, names):
    """Noise images; returns the folder's name."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return str(folder)


def polygon(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def rle(x, y, w, h):
    """Uncompressed."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    assert mask_util.area(mask_util.frPyObjects({"size": [HEIGHT, WIDTH], "counts": counts},
                                                HEIGHT, WIDTH)) == w * h  # fmt: skip
    return {"counts": counts, "size": [HEIGHT, WIDTH]}


def _objects(first_id, first_image, first_class, make):
    return [
        {"id": n, "image_id": image + first_image, "category_id": label + first_class,
         "bbox": [float(v) for v in box], **make(n - first_id, box)}
        for n, (image, label, *box) in enumerate(OBJECTS, first_id)
    ]  # fmt: skip


def cvat():
    """COCO 1.0 of CVAT: license 0, attributes, polygons and the brush's uncompressed RLE."""

    def fields(n, box):
        mask = rle(*box) if n == 2 else [polygon(*box)]
        return {"segmentation": mask, "area": float(box[2] * box[3]), "iscrowd": 0,
                "attributes": {"occluded": False, "rotation": 0.0}}  # fmt: skip

    files = ["a.png", "b.png", "c.png"]
    empty = dict.fromkeys(("contributor", "date_created", "description", "url", "version"), "")
    return files, {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {**empty, "year": ""},
        "categories": [{"id": i, "name": n, "supercategory": ""} for i, n in enumerate(NAMES, 1)],
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f, "license": 0,
                    "flickr_url": "", "coco_url": "", "date_captured": 0}
                   for i, f in enumerate(files, 1)],
        "annotations": _objects(1, 1, 1, fields),
    }  # fmt: skip


def roboflow():
    """Roboflow: everything from 0, and category 0 is the project, which nothing is labeled with."""
    files = [f"{n}_jpg.rf.0a1b2c3d4e.jpg" for n in "abc"]
    classes = [(0, "parts", "none"), (1, "bolt", "parts"), (2, "nut", "parts")]
    return files, {
        "info": {"year": "2024", "version": "1", "description": "Exported from roboflow.com",
                 "contributor": "", "url": "", "date_created": "2024-05-06T07:08:09+00:00"},
        "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}],
        "categories": [{"id": i, "name": n, "supercategory": s} for i, n, s in classes],
        "images": [{"id": i, "license": 1, "file_name": f, "height": HEIGHT, "width": WIDTH,
                    "date_captured": "2024-05-06T07:08:09+00:00", "extra": {"name": f"{i}.jpg"}}
                   for i, f in enumerate(files)],
        "annotations": _objects(0, 0, 1, lambda n, box: {
            "area": box[2] * box[3], "segmentation": [], "iscrowd": 0}),
    }  # fmt: skip


def label_studio():
    """Label Studio on Windows: backslashes, everything from 0, no masks, no iscrowd."""
    files = [f"images/{n}4f5e6d7c-photo.jpg" for n in "abc"]
    return files, {
        "images": [{"width": WIDTH, "height": HEIGHT, "id": i, "file_name": f.replace("/", "\\")}
                   for i, f in enumerate(files)],
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)],
        "annotations": _objects(0, 0, 0, lambda n, box: {
            "segmentation": [], "ignore": 0, "area": float(box[2] * box[3])}),
        "info": {"year": 2024, "version": "1.0", "description": "", "url": "",
                 "contributor": "Label Studio", "date_created": "2024-05-06 07:08:09.101112"},
    }  # fmt: skip


def labelme():
    """labelme's own labelme2coco.py: `_background_` is category 0, annotation ids from 0, nulls."""
    files = [f"JPEGImages/{n}.jpg" for n in "abc"]
    classes = ["_background_", *NAMES]
    return files, {
        "info": dict.fromkeys(("description", "url", "version", "contributor"), None),
        "licenses": [{"url": None, "id": 0, "name": None}],
        "images": [{"license": 0, "url": None, "file_name": f, "height": HEIGHT, "width": WIDTH,
                    "date_captured": None, "id": i} for i, f in enumerate(files)],
        "type": "instances",
        "annotations": _objects(0, 0, 1, lambda n, box: {
            "segmentation": [polygon(*box)], "area": float(box[2] * box[3]), "iscrowd": 0}),
        "categories": [{"supercategory": None, "id": i, "name": n} for i, n in enumerate(classes)],
    }  # fmt: skip


EXPORTERS = {make.__name__: make for make in (cvat, roboflow, label_studio, labelme)}
