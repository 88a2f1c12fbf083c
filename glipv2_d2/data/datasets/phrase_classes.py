"""Phrases of captions as classes, for Detectron2's own tools that draw data.

Detectron2 wants a `category_id` of every box and its name in `thing_classes`
(`tools/visualize_data.py`, `Visualizer.draw_dataset_dict`). Of a grounding data set these are the
phrases of its captions. They are for people alone: what a box is trained on are its `spans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ...language.class_names import PhraseNames
from ...language.spans import phrase_text

# Of all grounding sets of the process, so that a number means the same phrase in each of them:
# these tools draw several sets with the names of the first.
_NUMBERS: dict[str, int] = {}
_PHRASES = PhraseNames()


def number_phrases(records: Sequence[dict[str, Any]], dataset_name: str) -> None:
    """Write the number of its phrase into each annotation, in place, and the names into the
    metadata (`thing_classes`, which grows with every grounding set that is read).

    Nothing happens where the metadata names classes already: those of detection lines in the file.
    """
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("thing_classes", _PHRASES) is not _PHRASES:
        return
    metadata.thing_classes = _PHRASES
    for record in records:
        for annotation in record.get("annotations", ()):
            phrase = phrase_text(record["caption"], annotation["spans"])
            if phrase not in _NUMBERS:
                _NUMBERS[phrase] = len(_PHRASES)
                _PHRASES.append(phrase)
            annotation["category_id"] = _NUMBERS[phrase]
