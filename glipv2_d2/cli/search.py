"""`glip search`: find regions of an index, print them, and draw them."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..engine.region_search import RegionSearch
from ..errors import UsageError
from ..files import whole_file
from ..search.sheet import contact_sheet
from ..search.store import Match, RegionStore
from .detection.command import typed

_MAKER = "glipv2_d2 search"


def run(args: argparse.Namespace) -> int:
    """Search."""
    text = typed(args.text)
    if bool(text) == bool(args.box) or bool(args.box) != bool(args.image):
        raise UsageError("give what to look for: a text, or --image FILE with --box X1,Y1,X2,Y2")
    if args.box and args.rerank:
        raise UsageError("--rerank is for a text: an example box has no words to look for")
    box = _read_box(args.box) if args.box else None
    if args.sheet:
        _refuse_foreign(args.sheet)
    with RegionStore(args.index) as store:
        search = RegionSearch.of(store, device=args.device)
        if box is None:
            matches = search.text(text, args.top, args.rerank)
        else:
            matches = search.example(args.image, box, args.top)
        _warn_of_changes(store.changed(match.file for match in matches))
    if args.json:
        asked = {"index": args.index, "text": text, "image": args.image, "box": box}
        print(json.dumps({**asked, "regions": [match._asdict() for match in matches]}, indent=1))
    else:
        _print_table(matches)
    if args.sheet and matches:
        with whole_file(args.sheet) as file:
            made_by = PngInfo()
            made_by.add_text("Comment", _MAKER)
            contact_sheet(matches).save(file, "PNG", pnginfo=made_by)
    return 0


def _warn_of_changes(files: Sequence[str]) -> None:
    """What is printed of them was seen on other pictures."""
    if files:
        text = "%d of the images that are found have changed since they were indexed, or are gone "
        text += "(the first: '%s'): run `glip index` again"
        logging.getLogger(__name__).warning(text, len(files), files[0])


def _refuse_foreign(sheet: str) -> None:
    """An earlier sheet is replaced, and nothing else: one's own photos have such names, too."""
    if not sheet.lower().endswith(".png"):
        raise UsageError(f"--sheet is a PNG file, whose name ends in .png, got '{sheet}'")
    if not os.path.exists(sheet):
        return
    try:
        with Image.open(sheet) as picture:
            is_sheet = picture.info.get("Comment") == _MAKER
    except Exception:  # a folder, or of a hundred decoders
        is_sheet = False
    if not is_sheet:
        raise UsageError(
            f"'{sheet}' is no sheet of an earlier search, and would be lost: give another --sheet, "
            "or move it away"
        )


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
