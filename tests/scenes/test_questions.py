from collections import Counter, defaultdict

import numpy as np
import pytest

from glipv2_d2.data.datasets.scenes import (
    ALL_PAIRS,
    COLORS,
    HELD_OUT_PAIRS,
    NOVEL_CLASSES,
    SCENES_ANSWERS,
    SHAPES,
)
from glipv2_d2.scenes.captions import PLURALS
from glipv2_d2.scenes.layout import sample_base_pairs, sample_novel_pairs
from glipv2_d2.scenes.questions import MOST_COUNTED, ask_about
from tests.support.tiny_scenes import scene

SINGULAR = {plural: shape for shape, plural in PLURALS.items()} | {"objects": "object"}


def drawn(count, seed, novel=False):
    """Scenes of random pairs at random places."""
    rng = np.random.default_rng(seed)
    scenes = []
    for index in range(count):
        pairs = sample_novel_pairs(rng, index) if novel else sample_base_pairs(rng)
        places = rng.uniform(0.1, 0.9, (len(pairs), 2))
        scenes.append(scene(",".join(f"{c} {s} {x} {y}" for (c, s), (x, y) in zip(pairs, places))))
    return scenes


@pytest.fixture(scope="module")
def asked():
    """(scene, question) of a training split."""
    scenes = drawn(400, seed=0)
    questions = ask_about(scenes, "train", 4, np.random.default_rng(1))
    assert all(len(some) == len({q.kind for q in some}) for some in questions)
    return [(s, q) for s, some in zip(scenes, questions) for q in some]


def meant(things, words):
    """Indices of the things that "leftmost red star", "stars" or "red objects" may mean."""
    known = [SINGULAR.get(word, word) for word in words.split()]
    colors = [word for word in known if word in COLORS]
    shapes = [word for word in known if word in SHAPES]
    found = [i for i, t in enumerate(things) if t.color in colors or not colors]
    found = [i for i in found if things[i].shape in shapes or not shapes]
    extremes = {
        "leftmost": (0, min),
        "rightmost": (0, max),
        "topmost": (1, min),
        "lowest": (1, max),
    }
    if known[0] in extremes:
        axis, best = extremes[known[0]]
        return [best(found, key=lambda i: things[i].center[axis])]
    return found


def beside(things, i, relation, j):
    """Without any margin."""
    (x, y), (u, v) = things[i].center, things[j].center
    return {"left": x < u, "right": x > u, "above": y < v, "below": y > v}[relation.split()[0]]


def answered(things, text):
    """The answer of an independent reader of the questions."""
    words = text.rstrip("?").split()
    if text.startswith("how many"):
        return str(len(meant(things, " ".join(words[2:-2]))))
    if text.startswith("is there a"):
        return "yes" if meant(things, " ".join(words[3:])) else "no"
    if text.startswith("what"):
        head, *rest = text.rstrip("?").split(" the ")[1:]
        for relation in ("left of", "right of", "above", "below"):
            if head.endswith(relation):
                (landmark,) = meant(things, rest[0])
                named = meant(things, head.removesuffix(relation).strip())
                (found,) = [i for i in named if beside(things, i, relation, landmark)]
                return getattr(things[found], words[1])
        (found,) = meant(things, head)
        return getattr(things[found], words[1])
    (subject,) = meant(things, " ".join(words[2:4]))
    (other,) = meant(things, " ".join(words[-2:]))
    choices = [w for w in words if w in ("left", "right", "above", "below")]
    true = [choice for choice in choices if beside(things, subject, choice, other)]
    return ("yes" if true else "no") if len(choices) == 1 else true[0]


def test_every_answer_is_what_a_reader_of_the_question_finds(asked):
    assert len(asked) > 1500
    for example, question in asked:
        assert answered(example.things, question.text) == question.answer, question.text
        assert question.answer in SCENES_ANSWERS


def test_phrases_are_the_words_and_things_that_the_question_names(asked):
    for example, question in asked:
        for (start, end), things in question.phrases:
            words = question.text[start:end]
            named = meant(example.things, words)
            assert things == named or (len(things) == 1 and things[0] in named), question.text
            assert question.text[start - 1] == " "
        kinds = {example.things[i] for i in question.things}
        assert bool(kinds) == (question.answer not in ("no", "0"))


@pytest.mark.parametrize("kind", ["color", "shape", "count", "yes/no", "relation"])
def test_the_answers_of_a_kind_are_balanced(asked, kind):
    counts = Counter(q.answer for _, q in asked if q.kind == kind)
    assert sum(counts.values()) > 250
    if kind == "yes/no":
        assert abs(counts["yes"] - counts["no"]) < 0.1 * counts.total()
    elif kind == "count":
        assert set(counts) == {str(n) for n in range(MOST_COUNTED + 1)}
        assert max(counts.values()) < 0.35 * counts.total()
    else:
        assert max(counts.values()) < (0.2 if kind != "relation" else 0.25) * counts.total()


def test_the_words_of_a_question_do_not_tell_its_answer(asked):
    """The best answer to each wording, chosen with the answers known: an upper bound."""
    answers = defaultdict(Counter)
    for _, question in asked:
        if question.kind in ("color", "shape", "count"):
            answers[question.wording][question.answer] += 1
    often = [c for c in answers.values() if c.total() >= 8]
    assert len(often) > 30
    assert sum(max(c.values()) for c in often) < 0.4 * sum(c.total() for c in often)


def test_what_is_denied_shares_its_color_and_its_shape_with_something(asked):
    denied = [(s, q) for s, q in asked if q.denied]
    assert len(denied) > 50
    for example, question in denied:
        color, shape = question.denied
        assert example.where(color=color) and example.where(shape=shape)
        assert not example.where(color, shape)


def test_held_out_pairs_are_asked_in_novel_only(asked):
    text = " | ".join(q.text for _, q in asked)
    assert not any(name in text for name in NOVEL_CLASSES)
    novel = drawn(60, seed=2, novel=True)
    questions = ask_about(novel, "novel", 3, np.random.default_rng(0))
    about = Counter()
    for example, some in zip(novel, questions):
        for question in some:
            named = [i for _, things in question.phrases for i in things]
            pairs = {example.things[i].pair for i in named} | {question.denied}
            assert pairs <= {*ALL_PAIRS, None}
            about[not pairs.isdisjoint(HELD_OUT_PAIRS)] += 1
    assert about[True] > 0.8 * about.total()


def test_a_scene_without_a_kind_has_fewer_questions():
    alike = scene("red star .2 .2, red star .5 .5, red star .8 .8")
    (questions,) = ask_about([alike], "train", 4, np.random.default_rng(0))
    assert {q.kind for q in questions} == {"count", "yes/no"}
