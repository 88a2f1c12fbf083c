"""Describes scenes in captions to be learned by a captioner: what is there, the largest first.

Unlike the captions of `captions.py`, which are asked for in a given picture, these follow from the
picture as far as one sentence can: a list of what is largest, and where two things are.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from .captions import Caption, list_groups
from .relations import RELATIONS, holds
from .truth import Scene

MOST_LISTED = 3  # kinds of objects in one caption
_OPENINGS = ("a photo of", "this picture shows", "a picture of", "here you see")


def describe(scene: Scene, count: int, rng: np.random.Generator) -> list[Caption]:
    """Write captions of a scene, no two alike.

    The first lists the largest things; the next ones relate two things each ("a red star left of a
    blue ring"); what is missing then are lists of fewer things, or with an opening. A scene of one
    kind of thing may have fewer captions than `count`.

    Args:
        scene: what to describe.
        count: number of captions.
        rng: draws what is left open.
    """
    groups = list(scene.groups().items())
    relations = _relations(scene)
    captions = [_list(groups[:MOST_LISTED])]
    captions += [relations[i] for i in rng.permutation(len(relations))]
    captions += [_list(groups[:n]) for n in range(min(MOST_LISTED, len(groups)) - 1, 1, -1)]
    captions += [_list(groups[:MOST_LISTED], _OPENINGS[i]) for i in rng.permutation(4)]
    return list({caption.text: caption for caption in captions}.values())[:count]


def _list(groups: list[tuple[tuple[str, str], list[int]]], opening: str = "") -> Caption:
    """List: "two yellow circles, a green heart and a red star"."""
    caption = Caption()
    if opening:
        caption.add(opening)
    list_groups(caption, groups)
    return caption


def _relations(scene: Scene) -> list[Caption]:
    """Relate all things that have no like: "a red star left of a blue ring"."""
    alone = {pair: members for pair, members in scene.groups().items() if len(members) == 1}
    captions = []
    for (subject, (i,)), (other, (j,)) in permutations(alone.items(), 2):
        for relation in RELATIONS:
            if holds(scene.things[i].center, relation, scene.things[j].center):
                caption = Caption()
                caption.add("a")
                caption.add_phrase(" ".join(subject), [i])
                caption.add(f"{relation} a")
                caption.add_phrase(" ".join(other), [j])
                captions.append(caption)
    return captions
