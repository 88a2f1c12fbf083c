"""Labels as files that trainings read, each from the same record: GLIP's TSV, ODVG, WebDataset."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from .record import LabeledPair

__all__ = ["FORMATS", "EncodedImage"]


class EncodedImage(NamedTuple):
    """The image of a pair.

    Attributes:
        data: the bytes of its file, which are copied as they are.
        suffix: of such files, "jpg".
        path: that a table has for it; None: it lies in a container.
        pixels: (H, W, 3) uint8 BGR, upright.
    """

    data: bytes
    suffix: str
    path: str | None
    pixels: np.ndarray


Add = Callable[[LabeledPair, EncodedImage], None]


@contextmanager
def _tsv(folder: Path, nested: bool) -> Iterator[Add]:
    """GLIP's TSV, `pairs.yaml`.

    Args:
        nested: boxes and scores in a list for each phrase (what GLIP's code calls format v2), else
            the spans once for each box.
    """
    names = {"img": "images.tsv", "label": "labels.tsv"}
    with open(folder / names["img"], "wb") as images, open(folder / names["label"], "wb") as labels:
        offsets: dict[str, list[int]] = {name: [] for name in names.values()}

        def add(pair: LabeledPair, image: EncodedImage) -> None:
            offsets["images.tsv"].append(images.tell())
            offsets["labels.tsv"].append(labels.tell())
            size = {"img_h": pair.height, "img_w": pair.width}
            label = json.dumps({**size, **_glip_fields(pair, nested)}).encode()
            key = pair.key.encode("utf-8", "replace")
            images.write(key + b"\t" + base64.b64encode(image.data) + b"\n")
            labels.write(key + b"\t" + label + b"\n")

        yield add
    for name, rows in offsets.items():
        text = "".join(f"{offset}\n" for offset in rows)
        (folder / name).with_suffix(".lineidx").write_text(text)
    (folder / "pairs.yaml").write_text("".join(f"{key}: {name}\n" for key, name in names.items()))


@contextmanager
def _odvg(folder: Path) -> Iterator[Add]:
    """ODVG, `annotations.jsonl`, of the pairs with a box.

    An image that a table names keeps that name; one out of a container becomes a file in `images/`,
    named from the folder above.
    """
    (folder / "images").mkdir()
    with open(folder / "annotations.jsonl", "w", encoding="utf-8") as file:

        def add(pair: LabeledPair, image: EncodedImage) -> None:
            regions = [
                {
                    "bbox": boxes,
                    "phrase": pair.caption[span[0] : span[1]],
                    "tokens_positive": [span],
                    "score": scores,
                }
                for span, boxes, scores in pair.by_phrase()
            ]
            if not regions:
                return
            name = image.path
            if name is None:
                name = f"{folder.name}/images/{_file_key(pair.key)}.{image.suffix}"
                (folder.parent / name).write_bytes(image.data)
            line = {"filename": name, "height": pair.height, "width": pair.width}
            grounding = {"caption": pair.caption, "regions": regions}
            file.write(json.dumps({**line, "grounding": grounding}) + "\n")

        yield add


@contextmanager
def _webdataset(folder: Path) -> Iterator[Add]:
    """A WebDataset shard, `pairs.tar`, of `<key>.jpg` (or another image) and `<key>.json`."""
    with tarfile.open(folder / "pairs.tar", "w") as tar:

        def write(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            tar.getmembers().clear()  # it keeps them, and reads none when it writes

        def add(pair: LabeledPair, image: EncodedImage) -> None:
            size = {"height": pair.height, "width": pair.width}
            label = {**size, **_glip_fields(pair, nested=True)}
            write(f"{_file_key(pair.key)}.{image.suffix}", image.data)
            write(f"{_file_key(pair.key)}.json", json.dumps(label).encode())

        yield add


FORMATS: dict[str, Callable[[Path], AbstractContextManager[Add]]] = {
    "tsv": partial(_tsv, nested=False),
    "tsv2": partial(_tsv, nested=True),
    "odvg": _odvg,
    "webdataset": _webdataset,
}


def _glip_fields(pair: LabeledPair, nested: bool) -> dict[str, Any]:
    """`caption`, `bboxes`, `scores` and `tokens_positive` as `caption_fields` reads them."""
    found = list(pair.by_phrase())
    if not nested:
        found = [(span, box, score) for span, *of in found for box, score in zip(*of)]
    spans, boxes, scores = map(list, zip(*found)) if found else ([], [], [])
    return {
        "caption": pair.caption,
        "bboxes": boxes,
        "scores": scores,
        "tokens_positive": [[span] for span in spans],
    }


def _file_key(key: str) -> str:
    """A key as the name of a file and the key of a sample, which ends at the first dot."""
    return quote(key, safe="").replace(".", "%2E")
