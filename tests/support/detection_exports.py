"""The same six boxes, of "bolt" and "nut" in two of three images, as labeling tools export them.

Each writer takes an empty folder and returns what a user names: a file, or the folder. The classes
come in the order of the alphabet, and the images in that of their names.
"""

import json

import numpy as np
from PIL import Image

NAMES = ["bolt", "nut"]
# image: (height, width), [(class, x, y, w, h)]
IMAGES = {
    "a.png": ((60, 80), [(0, 5, 5, 20, 30), (1, 40, 10, 30, 40), (1, 0, 0, 80, 60)]),
    "b.png": ((48, 64), [(0, 10, 20, 40, 25), (1, 60, 1, 4, 9), (0, 3, 4, 5, 6)]),
    "c.png": ((60, 80), []),
}
OBJECTS = [(image, *box) for image, (_, boxes) in IMAGES.items() for box in boxes]


def write_images(folder, prefix="", suffix=""):
    """Noise; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, ((height, width), _)) in enumerate(IMAGES.items()):
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        stem, _, ending = name.partition(".")
        Image.fromarray(pixels).save(folder / f"{prefix}{stem}{suffix}.{ending}")
    return folder


def coco_content(prefix="", first=1):
    """A COCO json whose ids begin at `first`."""
    numbers = {name: i for i, name in enumerate(IMAGES, first)}
    return {
        "images": [
            {"id": i, "file_name": prefix + name, "height": IMAGES[name][0][0],
             "width": IMAGES[name][0][1]} for name, i in numbers.items()
        ],
        "annotations": [
            {"id": n, "image_id": numbers[image], "category_id": label + first,
             "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (image, label, *box) in enumerate(OBJECTS, first)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, first)],
    }  # fmt: skip


def coco(folder):
    write_images(folder / "images")
    path = folder / "annotations.json"
    path.write_text(json.dumps(coco_content()))
    return path


def roboflow_coco(folder):
    """The images beside the json; nothing has category 0, the project. Of Windows."""
    for split in ("train", "valid"):
        write_images(folder / split)
        content = coco_content()
        for category in content["categories"]:
            category["supercategory"] = "parts"
        content["categories"].insert(0, {"id": 0, "name": "parts", "supercategory": "none"})
        text = json.dumps(content, indent=1).replace("\n", "\r\n")
        (folder / split / "_annotations.coco.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (folder / "README.roboflow.txt").write_text("parts\n")
    return folder


def _yolo_line(image, label, x, y, w, h):
    height, width = IMAGES[image][0]
    box = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
    return f"{label} " + " ".join(f"{v:.6f}" for v in box)


def write_yolo_labels(folder):
    folder.mkdir(parents=True)
    for name, (_, boxes) in IMAGES.items():
        text = "\n".join(_yolo_line(name, *box) for box in boxes)
        (folder / name).with_suffix(".txt").write_text(text)  # empty: nothing is there


def yolo(folder):
    """Ultralytics: `images/train` and `labels/train`, a table of names."""
    write_images(folder / "images" / "train")
    write_yolo_labels(folder / "labels" / "train")
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    path = folder / "parts.yaml"
    path.write_text(f"path: ../datasets/parts  # elsewhere\ntrain: images/train\nnames:\n{names}")
    return path


def roboflow_yolo(folder):
    """A list of names, and paths that begin one folder too high; `valid` has fewer images."""
    for split in ("train", "valid"):
        write_images(folder / split / "images")
        write_yolo_labels(folder / split / "labels")
    (folder / "valid" / "images" / "c.png").unlink()
    (folder / "valid" / "labels" / "c.txt").unlink()
    (folder / "data.yaml").write_bytes(
        b"train: ../train/images\r\nval: ../valid/images\r\ntest: ../test/images\r\n\r\n"
        b"nc: 2\r\nnames: ['bolt', 'nut']\r\n\r\nroboflow:\r\n  workspace: mine\r\n"
    )
    return folder


def cvat_yolo(folder):
    """YOLO 1.1, darknet's layout: labels beside the images, the names in a file of their own."""
    data = write_images(folder / "obj_train_data")
    write_yolo_labels(folder / "labels")
    for file in (folder / "labels").iterdir():
        file.rename(data / file.name)
    (folder / "labels").rmdir()
    (folder / "obj.names").write_text("\n".join(NAMES) + "\n")
    (folder / "obj.data").write_text("classes = 2\nnames = data/obj.names\n")
    return folder


def voc_text(image, boxes, filename=None, first=1, source="The VOC2007 Database", **more):
    """An xml; `first`: the number of the first pixel."""
    height, width = IMAGES[image][0]
    objects = "".join(
        f"""\t<object>
\t\t<name>{NAMES[label]}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmax>{x + w}</xmax>
\t\t\t<xmin>{x + first}</xmin>
\t\t\t<ymin>{y + first}</ymin>
\t\t\t<ymax>{y + h}</ymax>
\t\t</bndbox>
\t</object>
"""
        for label, x, y, w, h in boxes
    )
    return f"""<annotation>
\t<folder>VOC2007</folder>
\t<filename>{filename or image}</filename>
\t<source><database>{source}</database></source>
\t<size>
\t\t<width>{width}</width>
\t\t<height>{height}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
{objects}</annotation>
"""


def voc(folder):
    """The challenges: `Annotations`, `JPEGImages`, and lists of the splits; masks as images."""
    write_images(folder / "JPEGImages")
    write_images(folder / "SegmentationClass")  # of the same names
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for image, (_, boxes) in IMAGES.items():
        (folder / "Annotations" / image).with_suffix(".xml").write_text(voc_text(image, boxes))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nc\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    return folder


def roboflow_voc(folder):
    """Beside the images, pixels counted from 0."""
    write_images(folder / "train", suffix="_png.rf.0a1b2c")
    for image, (_, boxes) in IMAGES.items():
        stem = f"{image[0]}_png.rf.0a1b2c"
        text = voc_text(image, boxes, f"{stem}.png", first=0, source="roboflow.com")
        (folder / "train" / f"{stem}.xml").write_text(text)
    return folder


def odvg(folder):
    write_images(folder / "images")
    lines = [
        {"filename": image, "height": height, "width": width, "detection": {"instances": [
            {"bbox": [x, y, x + w, y + h], "label": label, "category": NAMES[label]}
            for label, x, y, w, h in boxes]}}
        for image, ((height, width), boxes) in IMAGES.items()
    ]  # fmt: skip
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def cvat_text(shapes, meta=""):
    """An xml of the three images; `shapes`: image -> the elements in it."""
    images = "".join(
        f"""  <image id="{i}" name="parts/{name}" width="{width}" height="{height}">
{shapes.get(name, "")}  </image>
"""
        for i, (name, ((height, width), _)) in enumerate(IMAGES.items())
    )
    labels = "".join(f"<label><name>{n}</name><type>any</type></label>" for n in NAMES)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task><id>1</id><name>parts</name><labels>{labels}{meta}</labels></task>
  </meta>
{images}</annotations>
"""


def cvat(folder):
    """CVAT for images 1.1, of a task with a sub-folder."""
    write_images(folder / "images" / "parts")
    shapes = {
        image: "".join(
            f"""    <box label="{NAMES[label]}" source="manual" occluded="0" z_order="0"
      xtl="{x}.00" ytl="{y}.00" xbr="{x + w}.00" ybr="{y + h}.00">
      <attribute name="x">y</attribute></box>
"""
            for label, x, y, w, h in boxes
        )
        for image, (_, boxes) in IMAGES.items()
    }
    path = folder / "annotations.xml"
    path.write_text(cvat_text(shapes))
    return path


def region(image, label, x, y, w, h):
    """A rectangle of Label Studio, in percent."""
    height, width = IMAGES[image][0]
    box = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width,
           "height": 100 * h / height, "rotation": 0}  # fmt: skip
    return {**box, "rectanglelabels": [NAMES[label]]}


def size_of(image):
    return {"original_height": IMAGES[image][0][0], "original_width": IMAGES[image][0][1]}


def task(number, image, regions, **more):
    """A task of Label Studio's JSON, uploaded, with one annotation."""
    results = [
        {**size_of(image), "image_rotation": 0, "value": value, "id": f"r{n}", "from_name": "label",
         "to_name": "image", "type": "rectanglelabels", "origin": "manual"}
        for n, value in enumerate(regions)
    ]  # fmt: skip
    annotation = {"id": number, "completed_by": 1, "result": results, "was_cancelled": False,
                  "ground_truth": False, "created_at": "2024-05-06T07:08:09.1Z"}  # fmt: skip
    return {"id": number, "annotations": [annotation], "file_upload": f"0a1b2c3d-{image}",
            "drafts": [], "predictions": [], "data": {"image": f"/data/upload/7/0a1b2c3d-{image}"},
            "meta": {}, "project": 7, **more}  # fmt: skip


def label_studio(folder):
    """JSON, beside the images as Label Studio keeps them: with eight characters before the name."""
    write_images(folder / "images", prefix="0a1b2c3d-")
    tasks = [
        task(number, image, [region(image, *box) for box in boxes])
        for number, (image, (_, boxes)) in enumerate(IMAGES.items(), 1)
    ]
    path = folder / "project-7-at-2024-05-06-07-08.json"
    path.write_text(json.dumps(tasks))
    return path


def label_studio_min(folder):
    """JSON-MIN of images from a local storage; an image without regions has no list of them."""
    write_images(folder / "photos" / "some parts")
    tasks = []
    for number, (image, (_, boxes)) in enumerate(IMAGES.items(), 1):
        url = f"/data/local-files/?d=photos/some%20parts/{image}"
        entry = {"image": url, "id": number, "annotator": 1, "annotation_id": number,
                 "created_at": "2024-05-06T07:08:09.1Z", "lead_time": 2.5}  # fmt: skip
        if boxes:
            entry["label"] = [{**region(image, *box), **size_of(image)} for box in boxes]
        tasks.append(entry)
    path = folder / "min.json"
    path.write_text(json.dumps(tasks))
    return path


def shape(label, *points, kind="rectangle", **more):
    """A shape of labelme."""
    fields = {"group_id": None, "description": "", "shape_type": kind, "flags": {}, **more}
    return {"label": label, "points": [list(point) for point in points], **fields}


def labelme_content(image, shapes):
    height, width = IMAGES[image][0]
    return {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image,
            "imageData": None, "imageHeight": height, "imageWidth": width}  # fmt: skip


def labelme(folder):
    """A json beside each image, drawn from the lower right corner to the upper left one."""
    write_images(folder)
    for image, (_, boxes) in IMAGES.items():
        shapes = [shape(NAMES[c], (x + w, y + h), (x, y)) for c, x, y, w, h in boxes]
        text = json.dumps(labelme_content(image, shapes), indent=2)
        (folder / image).with_suffix(".json").write_text(text)
    return folder


WRITERS = {
    "coco": (coco, roboflow_coco),
    "cvat": (cvat,),
    "label_studio": (label_studio, label_studio_min),
    "labelme": (labelme,),
    "odvg": (odvg,),
    "voc": (voc, roboflow_voc),
    "yolo": (yolo, roboflow_yolo, cvat_yolo),
}


def every_export():
    """(format, writer) of each tool."""
    return [(kind, write) for kind, writers in WRITERS.items() for write in writers]
