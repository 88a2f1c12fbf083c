"""Small data sets in the formats of the benchmarks: real field names and the awkward cases."""

import json

import pytest

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
