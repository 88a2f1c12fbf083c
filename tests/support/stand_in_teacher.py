"""A teacher without a model, and image-text pairs in every form for it; processes import it."""

import csv
import json
import os
import signal
import time
from pathlib import Path

from glipv2_d2.labeling.shards import LabelSettings
from glipv2_d2.labeling.teacher import LabeledText
from glipv2_d2.language.noun_phrases import rules
from tests.support.pretraining_files import encoded_image, image_row, write_tar, write_tsv

CAPTIONS = ["a red star", "quickly, but why?", "the blue ring and a star", "a green cross"]


class StandIn:
    """Finds each noun phrase in a corner that depends on the image; its second box scores 0.3.

    Args:
        kill: a file; without it the process dies at the second image, and it is there afterwards.
        seconds: for each image.
    """

    batch_size = 3

    def __init__(self, kill: Path | None = None, seconds: float = 0.0):
        self.kill = kill
        self.seconds = seconds

    def __call__(self, images, captions):
        time.sleep(self.seconds * len(images))
        if self.kill is not None and not self.kill.exists():
            self.kill.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        labels = []
        for image, caption in zip(images, captions):
            spans = [list(span) for span in rules(caption)]
            x = float(image[0, 0, 0] % 8)
            boxes = [[i, x, 1.0, x + 9.5, 12.0, 0.9] for i in range(len(spans))]
            boxes += [[i, 20.0, 5.0, 30.0, 15.5, 0.3] for i in range(len(spans))]
            labels.append(LabeledText(caption, spans, boxes))
        return labels


def settings(format="tsv", **fields):
    """LabelSettings of the stand-in."""
    values = {
        "threshold": 0.1,
        "phrases": "rules",
        "recaption": False,
        "teacher": {"weights": "stand-in"},
        "columns": ["path", "caption"],
    }
    return LabelSettings(format, **{**values, **fields})


def write_pairs(folder: Path, kind: str, count: int = 4) -> str:
    """The path of so many pairs with `CAPTIONS`: "tar", "yaml", "csv", "tsv" or "jsonl"."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pairs.{kind}"
    captions = [CAPTIONS[i % len(CAPTIONS)] for i in range(count)]
    if kind == "tar":
        members = []
        for i, caption in enumerate(captions):
            members.append((f"k{i}.jpg", encoded_image(i)))
            text = ("json", json.dumps({"caption": caption})) if i % 2 else ("txt", caption)
            members.append((f"k{i}.{text[0]}", text[1].encode()))
        write_tar(path, members)
    elif kind == "yaml":
        write_tsv(folder / "images.tsv", [image_row(f"k{i}", i) for i in range(count)])
        rows = [[f"k{i}", json.dumps({"caption": text})] for i, text in enumerate(captions)]
        write_tsv(folder / "labels.tsv", rows)
        path.write_text("img: images.tsv\nlabel: labels.tsv\n")
    else:
        for i in range(count):
            (folder / f"{i}.jpg").write_bytes(encoded_image(i))
        rows = [{"path": f"{i}.jpg", "caption": text} for i, text in enumerate(captions)]
        with open(path, "w", newline="") as file:
            if kind == "jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(file, rows[0], delimiter="," if kind == "csv" else "\t")
                writer.writeheader()
                writer.writerows(rows)
    return str(path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
