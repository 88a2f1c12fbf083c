"""Pictures of data and of predictions, a PNG each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import UserError
from ...evaluation.coco_matches import ImageErrors
from ...scenes.contact_sheet import draw_contact_sheet, sheet_items
from ..inspection import contact_sheet, draw_record

_CELL = 360
EXAMPLES = 6  # best ones, and worst ones


def draw_records(
    records: Sequence[Mapping[str, Any]], classes: Sequence[str], count: int, seed: int
) -> Image.Image:
    """Draw some images with their boxes in a grid, those with boxes first."""
    order = list(records)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda record: not record["annotations"])
    tiles = []
    for record in order[: 2 * count]:
        try:
            tiles.append(draw_record(dict(record), classes, _CELL))
        except UserError:  # its header was read: the pixels are damaged
            continue
        if len(tiles) == count:
            break
    return contact_sheet(tiles, columns=4, width=_CELL)


def draw_examples(
    dataset: str,
    results: Sequence[dict[str, Any]],
    errors: Sequence[ImageErrors],
    threshold: float,
    folder: Path,
) -> None:
    """Draw the best and the worst images, truth beside predictions: `best.png`, `worst.png`.

    Args:
        dataset: registered; `errors` are in the order of its records.
        results: COCO results.
        errors: of each image.
        threshold: results with a lower score are not drawn.
        folder: of the pictures.
    """
    # Among equals those where most is to be seen.
    order = sorted(range(len(errors)), key=lambda i: (errors[i].share, -sum(errors[i])))
    half = min(EXAMPLES, -(-len(order) // 2))
    worst = sorted(order, key=lambda i: (-errors[i].share, -sum(errors[i])))[:half]
    for name, chosen in (("best", order[:half]), ("worst", worst)):
        items = sheet_items(dataset, results, score_threshold=threshold, chosen=chosen)
        draw_contact_sheet(items, cell=_CELL).save(folder / f"{name}.png")
