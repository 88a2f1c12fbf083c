"""Every benchmark as a small tree on the disk, in the real formats, names and folders."""

import contextlib
import json
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin import register_all_coco, register_all_lvis
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
from PIL import Image

from glipv2_d2.data.datasets.builtin import REFCOCO_SPLITS, register_all
from glipv2_d2.data.datasets.odinw import ODINW_ROWS, odinw_files

HEIGHT, WIDTH = 60, 80
CAPTION = "Two young guys look at a dog ."
# (start, end) of "Two young guys" and "a dog".
PHRASES = [[[0, 14]], [[23, 28]]]
BOXES = [[5, 5, 30, 40], [40, 10, 30, 40]]  # x, y, w, h
TASKS = ("black shirt", "walking people")


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_image(path, seed):
    """Noise; JPEG or PNG, as the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _image(number, name, **fields):
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, **fields}


def _annotation(number, image, box, **fields):
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image,
        "bbox": box,
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        **fields,
    }


def coco(root, count=3, split="val2017"):
    """instances_<split>.json with the 80 categories."""
    things = [c for c in COCO_CATEGORIES if c["isthing"]]
    images = [_image(139 + i, f"{139 + i:012d}.jpg") for i in range(count)]
    annotations = [
        _annotation(2 * i + k + 1, image["id"], box, category_id=things[3 * i + k]["id"])
        for i, image in enumerate(images)
        for k, box in enumerate(BOXES)
    ]
    content = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": c["id"], "name": c["name"]} for c in things],
    }
    write_json(root / f"coco/annotations/instances_{split}.json", content)
    for image in images:
        write_image(root / "coco" / split / image["file_name"], image["id"])


def without_truth(root, count=2):
    """Test-dev of COCO and LVIS and test2014 of COCO's captions: images, no annotations."""
    things = [c for c in COCO_CATEGORIES if c["isthing"]]
    images = [_image(581 + i, f"{581 + i:012d}.jpg") for i in range(count)]
    categories = [{"id": c["id"], "name": c["name"], "supercategory": "x"} for c in things]
    content = {"info": {}, "images": images, "categories": categories}
    write_json(root / "coco/annotations/image_info_test-dev2017.json", content)
    for image in images:
        write_image(root / "coco/test2017" / image["file_name"], image["id"])
        name = image.pop("file_name")
        image["coco_url"] = f"http://images.cocodataset.org/test2017/{name}"
    content["categories"] = [dict(c) for c in LVIS_CATEGORIES]
    write_json(root / "lvis/lvis_v1_image_info_test_dev.json", content)
    images = [_image(581 + i, f"COCO_test2014_{581 + i:012d}.jpg") for i in range(count)]
    write_json(root / "coco/annotations/image_info_test2014.json", {"info": {}, "images": images})
    for image in images:
        write_image(root / "coco/test2014" / image["file_name"], image["id"])


def lvis(root, count=2, splits=("val", "minival")):
    """lvis_v1_<split>.json with the 1,203 categories; images by coco_url."""
    images = []
    for i in range(count):
        name = f"{139 + i:012d}.jpg"
        image = _image(139 + i, name, coco_url=f"http://images.cocodataset.org/val2017/{name}")
        del image["file_name"]  # LVIS has none
        images.append({**image, "neg_category_ids": [7], "not_exhaustive_category_ids": []})
        write_image(root / "coco/val2017" / name, 139 + i)
    annotations = [
        _annotation(2 * i + k + 1, image["id"], box, category_id=100 * i + k + 1)
        for i, image in enumerate(images)
        for k, box in enumerate(BOXES)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [dict(c) for c in LVIS_CATEGORIES],
    }
    for split in splits:
        write_json(root / f"lvis/lvis_v1_{split}.json", content)


def flickr30k(root, count=2, splits=("val", "test")):
    """separateGT and mergedGT of each split, and the files of Flickr30k Entities."""
    entities = root / "flickr30k/Flickr30kEntities"
    for number, split in enumerate(splits):
        images, annotations = [], []
        for i in range(count):
            original = 1000 * (number + 1) + i
            images.append(
                _image(
                    i, f"{original}.jpg", caption=CAPTION, original_img_id=original,
                    sentence_id=0, tokens_positive_eval=PHRASES, dataset_name="flickr",
                    tokens_negative=[[0, len(CAPTION)]],
                )
            )  # fmt: skip
            annotations += [
                _annotation(2 * i + k, i, box, tokens_positive=PHRASES[k], category_id=1)
                for k, box in enumerate(BOXES)
            ]
            write_image(root / "flickr30k/flickr30k_images" / split / f"{original}.jpg", original)
            _entities(entities, original)
        content = {"info": [], "images": images, "annotations": annotations, "categories": []}
        for kind in ("separate", "merged"):
            path = root / f"mdetr_annotations/final_flickr_{kind}GT_{split}.json"
            write_json(path, content)


def _entities(folder, image):
    things = "".join(
        f"<object><name>{11 + k}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for k, (x, y, w, h) in enumerate(BOXES)
    )
    for kind in ("Annotations", "Sentences"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    text = f"<annotation><filename>{image}.jpg</filename>{things}</annotation>"
    (folder / f"Annotations/{image}.xml").write_text(text)
    sentence = "[/EN#11/people Two young guys] look at [/EN#12/animals a dog] .\n"
    (folder / f"Sentences/{image}.txt").write_text(sentence)


def karpathy(root, count=2):
    """dataset_coco.json: Karpathy's splits of COCO's captions, without sizes."""
    images = []
    for number, split in enumerate(("train", "restval", "val", "test") * count):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        sentences = [
            {"raw": text, "tokens": text.lower().split(), "imgid": number, "sentid": 2 * number + k}
            for k, text in enumerate((CAPTION, f"A dog and {number} guys."))
        ]
        image = {"filepath": folder, "filename": name, "imgid": number, "cocoid": number}
        images.append({**image, "split": split, "sentences": sentences})
        write_image(root / "coco" / folder / name, number)
    write_json(root / "karpathy/dataset_coco.json", {"images": images, "dataset": "coco"})


def refcoco(root):
    """Every split of RefCOCO, RefCOCO+ and RefCOCOg: two expressions of one image."""
    name = "COCO_train2014_000000000072.jpg"
    write_image(root / "coco/train2014" / name, 72)
    for data, splits in REFCOCO_SPLITS.items():
        for split in splits:
            images = [
                _image(i, name, caption=text, original_id=72, dataset_name=data)
                for i, text in enumerate(("left guy", "the dog on the right"))
            ]
            annotations = [
                _annotation(
                    i, i, box, tokens_positive=[[0, len(images[i]["caption"])]], category_id=1
                )
                for i, box in enumerate(BOXES)
            ]
            content = {"info": {}, "images": images, "annotations": annotations, "categories": []}
            write_json(root / f"mdetr_annotations/finetune_{data}_{split}.json", content)


def phrasecut(root, splits=("val", "test")):
    """MDETR's json and the authors' refer_<split>.json: an image with two tasks."""
    write_image(root / "gqa/images/2345.jpg", 5)
    for split in splits:
        images = [
            _image(i, "2345.jpg", caption=text, original_id=2345, task_id=f"2345__{i}",
                   dataset_name="phrasecut")
            for i, text in enumerate(TASKS)
        ]  # fmt: skip
        annotations = [
            _annotation(i, i, box, tokens_positive=[[0, len(TASKS[i])]], category_id=1)
            for i, box in enumerate(BOXES)
        ]
        content = {"info": {}, "images": images, "annotations": annotations, "categories": []}
        write_json(root / f"mdetr_annotations/finetune_phrasecut_{split}.json", content)
        tasks = []
        for image, entry in zip(images, annotations):
            corners = np.reshape(entry["segmentation"][0], (-1, 2)).tolist()
            tasks.append(
                {
                    "task_id": image["task_id"],
                    "image_id": 2345,
                    "phrase": image["caption"],
                    "instance_boxes": [entry["bbox"]],
                    "Polygons": [[corners]],
                }
            )
        write_json(root / f"phrasecut/refer_{split}.json", tasks)


# Those that `questions` writes.
QUESTION_SETS = (
    *(f"vqav2_{split}" for split in ("train", "val", "dev", "val_without_dev", "test-dev")),
    *(f"gqa_{split}" for split in ("train", "val", "testdev", "submission")),
    *(f"snli_ve_{split}" for split in ("train", "dev", "test")),
)


def questions(root):
    """VQAv2 (two questions about an image), GQA and SNLI-VE; the answers are yes and red."""
    asked = ("Is it a dog?", "What color is it?")
    for split, images in (
        ("train2014", "train2014"), ("val2014", "val2014"), ("test-dev2015", "test2015")
    ):  # fmt: skip
        write_image(root / f"coco/{images}/COCO_{images}_{262148:012d}.jpg", 262148)
        entries = [
            {"image_id": 262148, "question": text, "question_id": 262148000 + i}
            for i, text in enumerate(asked)
        ]
        content = {"data_type": "mscoco", "data_subtype": split, "questions": entries}
        write_json(root / f"vqav2/v2_OpenEnded_mscoco_{split}_questions.json", content)
        if split == "test-dev2015":
            continue
        annotations = [
            {
                "question_type": kind,
                "answer_type": group,
                "multiple_choice_answer": answer,
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": i}
                    for i in range(1, 11)
                ],
                "image_id": 262148,
                "question_id": entry["question_id"],
            }
            for entry, kind, group, answer in zip(
                entries, ("is it a", "what color"), ("yes/no", "other"), ("yes", "red")
            )
        ]
        write_json(root / f"vqav2/v2_mscoco_{split}_annotations.json", {"annotations": annotations})
    write_image(root / "gqa/images/2345.jpg", 5)
    write_image(root / "flickr30k/flickr30k_images/1000.jpg", 1000)
    asked_of_gqa = {f"0{i}": {"imageId": "2345", "question": text} for i, text in enumerate(asked)}
    write_json(root / "gqa/questions/submission_all_questions.json", asked_of_gqa)
    for split in ("train", "val", "testdev"):
        types = {"structural": "query", "semantic": "attr", "detailed": "directOf"}
        fields = {"types": types, "answer": "red"}
        content = {number: {**entry, **fields} for number, entry in asked_of_gqa.items()}
        write_json(root / f"gqa/questions/{split}_balanced_questions.json", content)
    for split in ("train", "dev", "test"):
        fields = {"Flickr30K_ID": "1000", "gold_label": "neutral", "sentence2": "A dog sleeps."}
        lines = [json.dumps({"pairID": f"1000.jpg#{i}r1n", **fields}) + "\n" for i in range(2)]
        (root / "snli_ve").mkdir(exist_ok=True)
        (root / f"snli_ve/snli_ve_{split}.jsonl").write_text("".join(lines))


def odinw(root, only=None, splits=("val", "minival", "test"), count=1):
    """The data sets of ODinW below their own folders; the class names are those of the files."""
    for row in ODINW_ROWS:
        if only is not None and row.name not in only:
            continue
        content = {
            "images": [_image(i + 1, f"{i}.jpg") for i in range(count)],
            "annotations": [
                _annotation(i + 1, i + 1, BOXES[i % 2], category_id=1) for i in range(count)
            ],
            "categories": [
                {"id": i, "name": f"name {i} of the file", "supercategory": "none"}
                for i in range(1, len(row.classes) + 1)
            ],
        }
        for split, (json_file, folder) in odinw_files(row).items():
            if split in splits:
                write_json(root / "odinw" / json_file, content)
                for i in range(count):
                    write_image(root / "odinw" / folder / f"{i}.jpg", i)


@contextlib.contextmanager
def catalogs_put_back():
    """What is registered in the context is forgotten at its end, and what is removed comes back."""
    kept = [(catalog, dict(catalog.data)) for catalog in (DatasetCatalog, MetadataCatalog)]
    try:
        yield
    finally:
        for catalog, content in kept:
            catalog.data.clear()
            catalog.data.update(content)


@contextlib.contextmanager
def catalogs_at(root: Path):
    """The catalogs as they are with DETECTRON2_DATASETS=root, as long as the context lasts."""
    with catalogs_put_back():
        DatasetCatalog.data.clear()
        MetadataCatalog.data.clear()
        register_all_coco(str(root))
        register_all_lvis(str(root))
        register_all(str(root))
        yield
