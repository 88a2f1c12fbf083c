"""A picture of a record: its boxes, and below it the text with the phrases in the same colors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from detectron2.structures import BoxMode
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from ...data.images import read_record_image
from ...language.spans import phrase_key

Record = dict[str, Any]
Color = tuple[int, int, int]
Place = tuple[float, float, float, float]

# Dark enough to be read on white, and apart from each other.
COLORS: tuple[Color, ...] = (
    (214, 39, 40), (31, 99, 200), (24, 130, 50), (200, 90, 0), (128, 50, 170), (0, 130, 140),
    (190, 30, 130), (120, 75, 30), (90, 100, 0), (70, 70, 200), (150, 0, 60), (60, 90, 110),
)  # fmt: skip
_GRAY = (110, 110, 110)
_MARGIN = 10
_LINE = 26


class _Word(NamedTuple):
    text: str
    color: Color | None
    marks: tuple[Color, ...]  # underlines: every phrase that the word is in
    glued: bool  # no blank before it


def draw_record(record: Record, class_names: Sequence[str] = (), size: int = 720) -> Image.Image:
    """Draw a record for people.

    Args:
        record: a checked record; its image is read.
        class_names: of detection records, by class id.
        size: pixels of the longer side that the image is scaled to.

    Returns:
        The image with numbered boxes, and below it the caption or the list of classes. A word has
        the color of its phrase; one that is in several has the color of the shortest and a line
        below for each. Crowd boxes are gray, and so are the answers of a question with their
        scores, and the captions of others that a written one is compared with.
    """
    image = Image.fromarray(read_record_image(record, "RGB"))
    scale = size / max(image.size)
    image = image.resize(
        (max(round(image.width * scale), 1), max(round(image.height * scale), 1)),
        Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC,
    )
    if "caption" in record:
        words, labels = _caption_words(record)
    elif "task" in record:
        words, labels = [], []
    else:
        words, labels = _class_words(record, class_names)
    answers = [f"{answer!r} {score:g}" for answer, score in record.get("answers", {}).items()]
    for text in (*answers, *record.get("references", ())):
        parts = ["  " + chr(0x2192), *text.split()]  # an arrow
        words += [_Word(part, _GRAY, (), False) for part in parts]
    image = _draw_boxes(image, record.get("annotations", ()), labels, scale)
    return _with_text(image, words, _title(record))


def contact_sheet(
    pictures: Sequence[Image.Image], columns: int = 3, width: int = 480
) -> Image.Image:
    """Several pictures as one, in rows.

    Args:
        pictures: one at least.
        columns: pictures in a row.
        width: of each, in pixels.
    """
    small = [p.resize((width, max(round(p.height * width / p.width), 1))) for p in pictures]
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    step = width + _MARGIN
    heights = [max(p.height for p in row) + _MARGIN for row in rows]
    size = (step * len(rows[0]) + _MARGIN, sum(heights) + _MARGIN)
    sheet = Image.new("RGB", size, (255, 255, 255))
    top = _MARGIN
    for row, height in zip(rows, heights):
        for column, picture in enumerate(row):
            sheet.paste(picture, (_MARGIN + column * step, top))
        top += height
    return sheet


def _caption_words(record: Record) -> tuple[list[_Word], list[tuple[str, Color]]]:
    """The caption in words, and (label, color) for each annotation.

    The label is the number of the phrase in a training prompt, and the score if there is one.
    """
    caption = record["caption"]
    annotations = record.get("annotations", ())
    of_box = [phrase_key(annotation["spans"]) for annotation in annotations]
    keys = sorted(set(of_box))
    colors = {key: COLORS[k % len(COLORS)] for k, key in enumerate(keys)}
    numbers = {key: str(k) for k, key in enumerate(keys)}
    labels = [
        (numbers[key] + (f" {a['score']:.2f}" if "score" in a else ""), colors[key])
        for key, a in zip(of_box, annotations)
    ]
    shortest_first = sorted(keys, key=lambda key: sum(b - a for a, b in key))
    edges = {0, len(caption), *(edge for key in keys for span in key for edge in span)}
    edges |= {i for i, char in enumerate(caption) if char.isspace()}
    edges |= {i + 1 for i, char in enumerate(caption) if char.isspace()}
    words, glued = [], True
    for start, end in zip(sorted(edges), sorted(edges)[1:]):
        text = caption[start:end]
        if not text.strip():
            glued = False
            continue
        owners = [key for key in shortest_first if any(a <= start and end <= b for a, b in key)]
        marks = tuple(colors[key] for key in owners)
        words.append(_Word(text, marks[0] if marks else None, marks, glued))
        for key in keys:
            if end == max(b for _, b in key):
                words.append(_Word(f"[{numbers[key]}]", colors[key], (), True))
        glued = True
    return words, labels


def _class_words(
    record: Record, class_names: Sequence[str]
) -> tuple[list[_Word], list[tuple[str, Color]]]:
    """The classes that occur with their numbers of boxes, and (name, color) per annotation."""
    annotations = record.get("annotations", ())
    counts: dict[int, int] = {}
    for annotation in annotations:
        counts[annotation["category_id"]] = counts.get(annotation["category_id"], 0) + 1
    order = sorted(counts)
    names = {i: class_names[i] if i < len(class_names) else f"class {i}" for i in order}
    colors = {i: COLORS[k % len(COLORS)] for k, i in enumerate(order)}
    words: list[_Word] = []
    for i in order:
        parts = [*names[i].split(), f"x{counts[i]}"]
        words += [_Word(part, colors[i], (colors[i],), False) for part in parts]
        words.append(_Word("  ", None, (), False))
    if not order:
        words = [_Word("no boxes", _GRAY, (), False)]
    return words, [(names[a["category_id"]], colors[a["category_id"]]) for a in annotations]


def _title(record: Record) -> str:
    name = record["file_name"]
    name = name if len(name) <= 70 else "..." + name[-67:]
    return f"{record.get('image_id')}  {name}  {record['width']}x{record['height']}"


def _draw_boxes(
    image: Image.Image,
    annotations: Sequence[Record],
    labels: Sequence[tuple[str, Color]],
    scale: float,
) -> Image.Image:
    canvas = image.convert("RGB")
    draw = ImageDraw.Draw(canvas)
    font = _font(14)
    boxes = [
        [v * scale for v in BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS)]
        for a in annotations
    ]
    colors = [_GRAY if a.get("iscrowd") else color for a, (_, color) in zip(annotations, labels)]
    for (x0, y0, x1, y1), color in zip(boxes, colors):
        x1, y1 = max(x1 - 1, x0), max(y1 - 1, y0)
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(255, 255, 255), width=4)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=2)
    taken: list[Place] = []
    for box, color, (text, _) in zip(boxes, colors, labels):
        text += " (crowd)" if color == _GRAY else ""
        size = (draw.textlength(text, font=font) + 8, 19)
        place = _label_place(box, size, canvas.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=color)
        draw.text((place[0] + 4, place[1] + 1), text, fill=(255, 255, 255), font=font)
    return canvas


def _label_place(
    box: Sequence[float], size: tuple[float, float], canvas: tuple[int, int], taken: list[Place]
) -> Place:
    """Inside the corner of the box, or where it hides no other label."""
    (x0, y0, x1, y1), (w, h) = box, size
    # Along the upper edge, along the lower one, then above and below the box.
    corners = [(x, y) for y in (y0, y1 - h) for x in (x0, x1 - w)] + [(x0, y0 - h), (x0, y1)]
    most_x, most_y = max(canvas[0] - w, 0), max(canvas[1] - h, 0)
    inside = [(min(max(x, 0), most_x), min(max(y, 0), most_y)) for x, y in corners]
    places = [(x, y, x + w, y + h) for x, y in inside]
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: Place, b: Place) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    return max(width, 0) * max(height, 0)


def _with_text(image: Image.Image, words: Sequence[_Word], title: str) -> Image.Image:
    """The image with a title line and the wrapped words below it."""
    font, small = _font(17), _font(12)
    width = max(image.width, 360)
    measure = ImageDraw.Draw(image)
    blank = measure.textlength(" ", font=font)
    lines: list[list[tuple[float, _Word]]] = [[]]
    x = float(_MARGIN)
    for word in words:
        length = measure.textlength(word.text, font=font)
        step = 0 if word.glued or not lines[-1] else blank
        if x + step + length > width - _MARGIN and lines[-1]:
            lines.append([])
            x, step = float(_MARGIN), 0
        lines[-1].append((x + step, word))
        x += step + length
    top = image.height + _MARGIN
    height = top + 20 + len(lines) * _LINE + _MARGIN
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    canvas.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, top), _fitting(title, small, width - 2 * _MARGIN), fill=_GRAY, font=small)
    for number, line in enumerate(lines):
        y = top + 20 + number * _LINE
        for x, word in line:
            draw.text((x, y), word.text, fill=word.color or (0, 0, 0), font=font)
            end = x + draw.textlength(word.text, font=font)
            for level, color in enumerate(word.marks[:3]):
                if len(word.marks) > 1:
                    draw.line((x, y + 21 + 2 * level, end, y + 21 + 2 * level), color, 1)
    return canvas


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    while len(text) > 4 and font.getlength(text) > width:
        text = text[: len(text) - 4] + "..."
    return text


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of matplotlib, which Detectron2 needs, too: it has more scripts than Pillow's."""
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
