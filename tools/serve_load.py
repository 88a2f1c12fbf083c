"""Asks a running `glip serve` by many clients at once, and checks each answer.

    glip serve --port 7860
    python tools/serve_load.py http://127.0.0.1:7860 datasets/scenes/val/*.jpg

Every client uploads images and asks for detections, answers and captions in turn. Each answer is
compared with that to the same question asked alone, before the others begin: the same words and
boxes, scores within 0.001 (a batch sums in another order). Printed are the percentiles of the
latency; the exit status is 1 where an answer was another one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from glipv2_d2.errors import command

SCORE, PIXELS = 1e-3, 0.5  # how far scores and corners may differ
QUESTIONS = (
    ("detect", {"prompt": "red star, blue circle, green ring", "masks": False}),
    ("answer", {"question": "what color is the star?", "masks": False}),
    ("detect", {"prompt": "a [yellow heart] beside a [white cross]", "masks": False}),
    ("caption", {"masks": False}),
)


class Asked(NamedTuple):
    """A question about an image file."""

    file: Path
    task: str
    body: dict[str, Any]


class Timed(NamedTuple):
    answer: dict[str, Any]
    seconds: float


def post(address: str, content: bytes, kind: str) -> dict[str, Any]:
    with urlopen(Request(address, content, {"Content-Type": kind}), timeout=600) as response:
        return json.load(response)


def ask(server: str, asked: Asked) -> Timed:
    """Upload the image and ask; both are timed."""
    began = time.perf_counter()
    content = asked.file.read_bytes()
    known = post(f"{server}/v1/images", content, "application/octet-stream")
    body = json.dumps({**asked.body, "image_id": known["image_id"]}).encode()
    answer = post(f"{server}/v1/{asked.task}", body, "application/json")
    return Timed(answer, time.perf_counter() - began)


def differences(found: dict[str, Any], alone: dict[str, Any]) -> Iterator[str]:
    """What two answers differ in."""
    for key in ("width", "height", "answer", "caption", "words"):
        if found.get(key) != alone.get(key):
            yield f"{key}: {found.get(key)!r}, alone {alone.get(key)!r}"
    boxes, boxes_alone = found["detections"], alone["detections"]
    if [b["phrase"] for b in boxes] != [b["phrase"] for b in boxes_alone]:
        yield f"{len(boxes)} boxes, alone {len(boxes_alone)}, or of other phrases"
        return
    for box, other in zip(boxes, boxes_alone):
        far = max(abs(a - b) for a, b in zip(box["box"], other["box"]))
        if far > PIXELS or abs(box["score"] - other["score"]) > SCORE:
            yield f"{box['phrase']}: {box}, alone {other}"


def percentiles(title: str, seconds: list[float]) -> str:
    steps = statistics.quantiles(seconds, n=100, method="inclusive")
    shown = (f"{name} {steps[i]:.2f}" for name, i in (("p50", 49), ("p90", 89), ("p99", 98)))
    return (
        f"{title:10}{len(seconds):5} requests, seconds: {', '.join(shown)}, most {max(seconds):.2f}"
    )


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("server", help="its address")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    different = [Asked(file, task, body) for file in args.images for task, body in QUESTIONS][
        : args.requests
    ]
    alone = [ask(args.server, asked) for asked in different]
    print(percentiles("alone", [timed.seconds for timed in alone]), flush=True)
    numbers = [i % len(different) for i in range(args.requests)]
    began = time.perf_counter()
    with ThreadPoolExecutor(args.clients) as clients:
        together = list(clients.map(lambda i: ask(args.server, different[i]), numbers))
    passed = time.perf_counter() - began
    print(percentiles("together", [timed.seconds for timed in together]))
    print(f"{args.clients} clients, {args.requests / passed:.2f} requests per second")
    wrong = 0
    for i, timed in zip(numbers, together):
        for difference in differences(timed.answer, alone[i].answer):
            wrong += 1
            print(f"another answer to {different[i]}: {difference}")
    print(f"{wrong} differences in {len(together)} answers")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
