"""`glip search`: find regions of an index, print them, and draw them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ..engine.region_search import RegionSearch
from ..errors import UsageError
from ..files import whole_file
from ..search.sheet import contact_sheet
from ..search.store import Match, RegionStore
from .detection.command import typed


def run(args: argparse.Namespace) -> int:
    """Search."""
    text = typed(args.text)
    if bool(text) == bool(args.box) or bool(args.box) != bool(args.image):
        raise UsageError("give what to look for: a text, or --image FILE with --box X1,Y1,X2,Y2")
    if args.box and args.rerank:
        raise UsageError("--rerank is for a text: an example box has no words to look for")
    box = _read_box(args.box) if args.box else None
    with RegionStore(args.index) as store:
        search = RegionSearch.of(store, device=args.device)
        if box is None:
            matches = search.text(text, args.top, args.rerank)
        else:
            matches = search.example(args.image, box, args.top)
    if args.json:
        asked = {"index": args.index, "text": text, "image": args.image, "box": box}
        print(json.dumps({**asked, "regions": [match._asdict() for match in matches]}, indent=1))
    else:
        _print_table(matches)
    if args.sheet and matches:
        with whole_file(args.sheet) as file:
            contact_sheet(matches).save(file, "PNG")
    return 0


def _read_box(text: str) -> list[float]:
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--box is X1,Y1,X2,Y2 in pixels, as 40,60,90,120, got {text!r}") from None
    return [x1, y1, x2, y2]


def _print_table(matches: Sequence[Match]) -> None:
    for match in matches:
        box = ",".join(f"{x:.0f}" for x in match.box)
        print(f"{match.score:6.3f}  {box:<20}  {match.file}")
    if not matches:
        print("nothing is found")
