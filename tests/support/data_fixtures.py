"""Small data sets on the disk, registered: detection, grounding, scenes, and one by its classes."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from glipv2_d2.data import register_grounding_dataset
from glipv2_d2.language.tokenizer import PromptTokenizer
from glipv2_d2.scenes.build import build_scenes
from tests.support.benchmark_tree import catalogs_at, catalogs_put_back
from tests.support.pretraining_files import (
    BOXES,
    CAPTION,
    HEIGHT,
    SPANS,
    WIDTH,
    caption_label,
    encoded_image,
    image_row,
    write_tar,
    write_tsv,
)

CLASSES = ["cat", "caterpillar", "cat_food"]
SIZE = 64  # of the images of `register`


@pytest.fixture(autouse=True)
def catalogs():
    """What a test registers is forgotten after it."""
    with catalogs_put_back():
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return PromptTokenizer.from_pretrained("minilm")


@pytest.fixture
def images(tmp_path):
    """Folder with twelve noise images of 60 x 80."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(12):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def coco_json(tmp_path, images):
    """COCO json over the images: one triangle each, the last image has none."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(12)
        ],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i,
                "bbox": [5, 5, 20, 30],
                "category_id": 1 + i % 3,
                "iscrowd": 0,
                "area": 300,
                "segmentation": [[5, 5, 25, 5, 25, 35]],
            }
            for i in range(11)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def mdetr_json(tmp_path, images):
    """MDETR json over the images: "star 3 left of the blue ring", two boxes each."""
    captions = [f"the star {i} left of the blue ring" for i in range(12)]
    content = {
        "images": [
            {
                "id": 100 + i,
                "file_name": f"{i}.png",
                "height": HEIGHT,
                "width": WIDTH,
                "caption": caption,
                "original_img_id": i,
            }
            for i, caption in enumerate(captions)
        ],
        "annotations": [],
        "categories": [],
    }
    for i, caption in enumerate(captions):
        ring, star = caption.index("blue ring"), caption.index("star")
        for spans, box in (
            ([[ring, ring + 9]], [40, 10, 20, 20]),
            ([[star, star + 4]], [5, 10, 20, 20]),
        ):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": 100 + i,
                    "bbox": box,
                    "tokens_positive": spans,
                    "area": 400,
                    "iscrowd": 0,
                    "category_id": 1,
                }
            )
    path = tmp_path / "mdetr.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def datasets(coco_json, mdetr_json, images):
    """The names of both, registered."""
    names = ("tiny_detection", "tiny_grounding")
    register_coco_instances(names[0], {}, str(coco_json), str(images))
    register_grounding_dataset(names[1], str(mdetr_json), str(images))
    return names


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Of a web server on this machine, of the folder "web"."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "web").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "web")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def few_scenes_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    build_scenes(root / "scenes", size=64, train=1, val=4, novel=1, workers=1)
    return root


@pytest.fixture(scope="module")
def scenes(few_scenes_root):
    """Four images of val and one of novel, in the catalogs."""
    with catalogs_at(few_scenes_root):
        yield few_scenes_root


@pytest.fixture
def register(tmp_path):
    """register(name, class names, [[(class index, xywh), ...] per image], **metadata) -> name."""

    def _register(name, classes, images, **metadata):
        annotations = [
            {
                "id": 100 * i + j + 1,
                "image_id": i + 1,
                "category_id": 10 * (index + 1),  # ids with gaps, as COCO's own
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for i, objects in enumerate(images)
            for j, (index, box) in enumerate(objects)
        ]
        content = {
            "info": {},
            "images": [
                {"id": i + 1, "file_name": f"{i}.jpg", "height": SIZE, "width": SIZE}
                for i in range(len(images))
            ],
            "annotations": annotations,
            "categories": [{"id": 10 * (i + 1), "name": n} for i, n in enumerate(classes)],
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_instances(name, metadata, str(path), str(tmp_path))
        DatasetCatalog.get(name)
        return name

    return _register


@pytest.fixture
def caption_tsv(tmp_path):
    """Four rows: sound, boxes grouped by phrase (v2), all scores low, png with another size."""
    labels = [
        caption_label(CAPTION, BOXES, SPANS, [0.9, 0.6]),
        caption_label(CAPTION, [[BOXES[0], BOXES[1]], [BOXES[1]]], SPANS, [[0.9, 0.4], [0.8]]),
        caption_label(CAPTION, BOXES, SPANS, [0.5, 0.1]),
        caption_label("ein Café", [[0, 0, 20, 20]], [[[4, 8]]], [0.99]),
    ]
    write_tsv(tmp_path / "images.tsv", [image_row(f"img{i}", i) for i in range(4)])
    write_tsv(
        tmp_path / "labels.tsv",
        [[f"img{i}", json.dumps(label, ensure_ascii=False)] for i, label in enumerate(labels)],
    )
    (tmp_path / "captions.yaml").write_text("img: images.tsv\nlabel: labels.tsv\n")
    return tmp_path / "captions.yaml"


@pytest.fixture
def shards(tmp_path):
    """Two shards as img2dataset writes them (key.jpg, key.txt, key.json): five sound samples."""
    folder = tmp_path / "shards"
    folder.mkdir()
    number = 0
    for shard, count in enumerate((3, 2)):
        members = []
        for _ in range(count):
            key = f"{shard:05d}{number:04d}"
            label = caption_label(CAPTION, BOXES, SPANS, [0.9, 0.6], key=key)
            if number % 2:
                # The size in img2dataset's fields, or none at all.
                del label["img_h"], label["img_w"], label["caption"]
                label.update({"width": WIDTH, "height": HEIGHT} if number == 1 else {})
            members += [
                (f"{key}.jpg", encoded_image(number)),
                (f"{key}.txt", CAPTION.encode()),
                (f"{key}.json", json.dumps(label).encode()),
            ]
            number += 1
        write_tar(folder / f"{shard:05d}.tar", members)
    return folder
