"""Small data sets in the formats of the benchmarks: real field names and the awkward cases."""

import base64
import io
import json
import tarfile

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 60, 80


def encoded_image(seed, kind="JPEG", size=(WIDTH, HEIGHT)):
    """The bytes of a noise image."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_tsv(path, rows, lineidx=True):
    """Rows of columns; the offsets beside it as GLIP's files have them."""
    offsets, data = [], b""
    for row in rows:
        offsets.append(len(data))
        data += b"\t".join(c if isinstance(c, bytes) else c.encode() for c in row) + b"\n"
    path.write_bytes(data)
    if lineidx:
        path.with_suffix(".lineidx").write_text("".join(f"{o}\n" for o in offsets))


def image_row(key, seed):
    return [key, base64.b64encode(encoded_image(seed))]


def caption_label(caption, boxes, spans, scores, **fields):
    """The json of GLIP's caption pseudo labels."""
    return {
        "img_h": HEIGHT,
        "img_w": WIDTH,
        "caption": caption,
        "bboxes": boxes,
        "tokens_positive": spans,
        "scores": scores,
        **fields,
    }


CAPTION = "a caterpillar on a green leaf"
# "cat", "##er", "##pillar" as word pieces; "green leaf" as one span
SPANS = [[[2, 5], [5, 7], [7, 13]], [[19, 29]]]
BOXES = [[5.5, 5, 30, 40], [40, 10, 70, 50]]


def write_tar(path, members):
    """(name, bytes) in this order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def edited(path, edit):
    """The path of a json, changed by `edit`."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return str(path)
