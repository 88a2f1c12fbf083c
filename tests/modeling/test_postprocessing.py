"""Post-processing against a plain reimplementation of the official rules."""

import itertools
import math

import pytest
import torch
from detectron2.structures import Boxes, Instances

from glipv2_d2.language import Prompt
from glipv2_d2.language.positive_map import ClassMap
from glipv2_d2.language.words import NEGATIVE
from glipv2_d2.modeling import postprocessing
from glipv2_d2.modeling.boxes import InclusiveBoxCoder
from glipv2_d2.modeling.postprocessing import (
    Asked,
    Detections,
    GroundingPostprocessor,
    deferred_classes,
)

TOKENS = 9
SIZE = (60, 80)  # height, width
LEVEL_SIZES = {8: (8, 10), 16: (4, 5), 32: (2, 3)}


def make(**options):
    return GroundingPostprocessor(box_coder=InclusiveBoxCoder(), **options)


def found(boxes, scores, classes):
    """Detections of an image's only prompt."""
    return Detections(boxes, scores, classes, torch.zeros_like(classes))


def prompt(class_ids):
    return Prompt.from_classes([f"name{i}" for i in range(len(class_ids))], class_ids)


def positive_map(phrases):
    """Phrase k owns tokens 1 + 2k and, every second phrase, 2 + 2k."""
    rows = torch.zeros(phrases, TOKENS, dtype=torch.bool)
    for k in range(phrases):
        rows[k, 1 + 2 * k] = True
        rows[k, 2 + 2 * k] = k % 2 == 0
    return rows


def levels(seed, spread=2.0):
    """Logits, deltas, centerness and anchors of three levels."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for stride, (height, width) in LEVEL_SIZES.items():
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = torch.stack((x, y), dim=-1).reshape(-1, 2) * stride + (stride - 1) / 2
        half = (4 * stride - 1) / 2
        count = height * width
        parts.append(
            (
                torch.randn(count, TOKENS, generator=generator) * spread - 1,
                torch.randn(count, 4, generator=generator),
                torch.randn(count, generator=generator) * spread,
                torch.cat((centers - half, centers + half), dim=1),
            )
        )
    return tuple(zip(*parts))


def iou_plus_one(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def naive_nms(detections, threshold):
    """(score, class, box) tuples, best first; a box of the same class with a larger IoU goes."""
    kept = []
    for score, label, box in sorted(detections, key=lambda d: -d[0]):
        if all(label != k[1] or iou_plus_one(box, k[2]) <= threshold for k in kept):
            kept.append((score, label, box))
    return kept


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def naive_detect(parts, class_ids, rows, threshold=0.05, topk=1000, nms=0.6, limit=100):
    candidates = []
    for logits, deltas, centerness, anchors in zip(*parts):
        boxes = InclusiveBoxCoder().decode(deltas, anchors).tolist()
        pairs = []
        for n, row in enumerate(logits.tolist()):
            scores = {}
            for k, label in enumerate(class_ids):
                tokens = [t for t in range(TOKENS) if rows[k, t]]
                mean = sum(sigmoid(row[t]) for t in tokens) / len(tokens)
                scores[label] = max(mean, scores.get(label, 0.0))
            for label, score in scores.items():
                if score > threshold:
                    pairs.append((score * sigmoid(centerness[n].item()), label, boxes[n]))
        candidates += sorted(pairs, key=lambda p: -p[0])[:topk]
    height, width = SIZE
    clipped = [
        (
            math.sqrt(score),
            label,
            [min(max(v, 0), (height if i % 2 else width) - 1) for i, v in enumerate(box)],
        )
        for score, label, box in candidates
    ]
    kept = naive_nms(clipped, nms)
    if len(kept) > limit:
        kept = [k for k in kept if k[0] >= kept[limit - 1][0]]
    return kept


def joined(*pairs):
    """Of some pairs the logits, deltas and centerness of all levels as one; the anchors of each."""
    joined_levels = [[torch.cat(output) for output in outputs] for *outputs, _ in pairs]
    return *map(torch.stack, zip(*joined_levels)), pairs[0][-1]


def detect(postprocessor, parts, class_map, deferred=()):
    """Of one image and prompt."""
    asked = [Asked(class_map, SIZE, deferred=deferred)]
    return postprocessor.detect(*joined(parts), asked)[0]


def check(detections, expected):
    scores, classes, boxes = zip(*expected)
    assert len(detections.scores) == len(expected)
    assert detections.classes.tolist() == list(classes)
    # Float32 sigmoids against float64 ones; no two scores of these cases are nearer than that.
    torch.testing.assert_close(detections.scores, torch.tensor(scores), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(detections.boxes, torch.tensor(boxes), atol=1e-3, rtol=0)


@pytest.mark.parametrize("class_ids", [(0, 1, 2, 3), (7, 3, 12, 5), (4, 9, 4, 9), (2,)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"topk": 12}, {"nms": 0.3, "limit": 10}, {"threshold": 0.4}],
    ids=["defaults", "topk", "nms", "threshold"],
)
def test_equals_the_plain_form(class_ids, options):
    parts, rows = levels(seed=len(class_ids)), positive_map(len(class_ids))
    names = {
        "threshold": "score_threshold",
        "topk": "topk_candidates",
        "nms": "nms_threshold",
        "limit": "detections_per_prompt",
    }
    postprocessor = make(**{names[k]: v for k, v in options.items()})
    detections = detect(postprocessor, parts, ClassMap.build(prompt(class_ids), rows))
    expected = naive_detect(parts, class_ids, rows, **options)
    assert len(expected) > 5
    check(detections, expected)


@pytest.mark.parametrize("at_once", [0, 100, 25_000])  # CPU's, some pairs, GPU's
@pytest.mark.parametrize("topk", [1000, 20])
def test_pairs_together_are_what_they_are_alone(topk, at_once, monkeypatch):
    """Prompts of other classes, of image sizes of their own, one of them without detections."""
    monkeypatch.setattr(postprocessing, "NMS_BOXES", {"cpu": at_once})
    postprocessor = make(topk_candidates=topk, detections_per_prompt=15, nms_threshold=0.3)
    pairs = [levels(seed=seed) for seed in range(4)]
    pairs[2] = ([x - 20 for x in pairs[2][0]], *pairs[2][1:])
    class_ids = [(4, 9), (9, 1, 1), (5,), (0, 9, 2)]
    asked = [
        Asked(
            ClassMap.build(prompt(ids), positive_map(len(ids))), (SIZE[0] - 5 * i, SIZE[1] - i), i,
            {9} if i == 3 else (),
        )
        for i, ids in enumerate(class_ids)
    ]  # fmt: skip
    together = postprocessor.detect(*joined(*pairs), asked)
    assert [len(x.scores) > 5 for x in together] == [True, True, False, True]
    for i, (parts, pair) in enumerate(zip(pairs, asked)):
        (alone,) = postprocessor.detect(*joined(parts), [pair])
        for actual, expected in zip(together[i], alone):
            assert torch.equal(actual, expected)
        assert set(together[i].prompt_index.tolist()) <= {i}


def one_position(class_logit, centerness):
    """A single anchor, one phrase of one token."""
    logits = torch.full((1, TOKENS), -9.0)
    logits[0, 1] = class_logit
    anchor = torch.tensor([[10.0, 10.0, 25.0, 25.0]])
    return [logits], [torch.zeros(1, 4)], [torch.tensor([centerness])], [anchor]


def test_threshold_is_on_the_class_score_before_centerness():
    class_map = ClassMap.build(prompt([0]), torch.eye(TOKENS).bool()[1:2])
    # The score may be far below the threshold, if only the class score was above it.
    low_score = detect(make(), one_position(-2.0, centerness=-8.0), class_map)
    assert low_score.scores.item() == pytest.approx(math.sqrt(sigmoid(-2) * sigmoid(-8)), rel=1e-5)
    assert low_score.scores.item() < 0.05
    # And the other way round: sqrt(0.047 * 1) > 0.05.
    low_class = detect(make(), one_position(-3.0, centerness=8.0), class_map)
    assert len(low_class.scores) == 0
    at_threshold = detect(make(score_threshold=0.5), one_position(0.0, 0.0), class_map)
    assert len(at_threshold.scores) == 0  # exactly 0.5 is not above 0.5


def test_nothing_found_gives_empty_tensors_of_the_right_kind():
    class_map = ClassMap.build(prompt([3, 1]), positive_map(2))
    postprocessor = make(score_threshold=1.0)
    empty = detect(postprocessor, levels(seed=0), class_map)
    merged = postprocessor.merge([empty, empty])
    instances = postprocessor.to_instances(merged, [prompt([3, 1])], SIZE)
    assert len(instances) == 0 and len(instances.pred_phrases) == 0
    assert instances.pred_boxes.tensor.shape == (0, 4)
    assert instances.pred_classes.dtype == torch.int64 and instances.scores.dtype == torch.float32


def grid(scores, classes=None, size=10.0):
    """Disjoint boxes in a row."""
    x = torch.arange(len(scores)) * 20.0
    boxes = torch.stack((x, torch.zeros_like(x), x + size - 1, torch.full_like(x, size - 1)), dim=1)
    labels = (
        torch.zeros(len(scores), dtype=torch.long) if classes is None else torch.tensor(classes)
    )
    return found(boxes, torch.tensor(scores), labels)


def test_ties_with_the_last_one_are_kept():
    """The three best of seven anchors far apart, and two more that score as the third."""
    class_map = ClassMap.build(prompt([0]), torch.eye(TOKENS).bool()[1:2])
    values = [2.0, -4.0, 1.0, 0.0, -1.0, 0.0, 0.0]
    logits = torch.full((7, TOKENS), -9.0)
    logits[:, 1] = torch.tensor(values)
    anchors = torch.tensor([[10.0 * i, 0.0, 10.0 * i + 5, 5.0] for i in range(7)])
    parts = [logits], [torch.zeros(7, 4)], [torch.full((7,), 20.0)], [anchors]
    expected = [math.sqrt(sigmoid(x)) for x in sorted(values, reverse=True)]
    best = detect(make(detections_per_prompt=3, score_threshold=0.1), parts, class_map)
    assert best.scores.tolist() == pytest.approx(expected[:5])
    few = detect(make(detections_per_prompt=6, score_threshold=0.1), parts, class_map)
    assert few.scores.tolist() == pytest.approx(expected[:6])
    two = detect(make(detections_per_prompt=2, score_threshold=0.1), parts, class_map)
    assert two.scores.tolist() == pytest.approx(expected[:2])


def test_boxes_are_clipped_to_the_unpadded_image():
    class_map = ClassMap.build(prompt([0]), torch.eye(TOKENS).bool()[1:2])
    logits, deltas, centerness, _ = one_position(2.0, 2.0)
    for anchor, expected in (
        ([-20.0, -30.0, 43.0, 33.0], [0, 0, 43, 33]),
        ([50.0, 40.0, 113.0, 103.0], [50, 40, 79, 59]),
    ):
        own = [torch.tensor([anchor])]
        clipped = detect(make(), (logits, deltas, centerness, own), class_map)
        torch.testing.assert_close(clipped.boxes, torch.tensor([expected]).float())
        # Continuous at the border of the model: the last pixel ends at the image's edge.
        box = make().to_instances(clipped, [prompt([0])], SIZE).pred_boxes.tensor[0]
        assert box.tolist() == pytest.approx([*expected[:2], expected[2] + 1, expected[3] + 1])
        assert box[2] <= SIZE[1] and box[3] <= SIZE[0]


def test_merging_chunks_of_different_classes_only_sorts():
    # One box in both, with IoU 1: they are of different classes.
    chunks = [grid([0.9, 0.3], [0, 1]), grid([0.8, 0.5, 0.2], [4, 4, 7])]
    merged = make().merge(chunks)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8, 0.5, 0.3, 0.2])
    assert merged.classes.tolist() == [0, 4, 4, 1, 7]
    for order in itertools.permutations(chunks):
        assert all(torch.equal(a, b) for a, b in zip(make().merge(order)[:3], merged))


def test_a_class_of_several_chunks_goes_through_one_nms():
    chunks = [grid([0.9, 0.3], [0, 1]), grid([0.8, 0.5], [0, 2])]
    merged = make().merge(chunks, deferred={0})
    # Class 0 was found at the same place by both; the better one stays.
    assert merged.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert merged.classes.tolist() == [0, 2, 1]


def test_a_box_that_only_a_loser_would_suppress_stays():
    """Best of all is a box of the second prompt; NMS per prompt first would lose the third box."""
    postprocessor = make(nms_threshold=0.5)
    first = found(
        torch.tensor([[0.0, 0, 9, 9], [3.0, 0, 12, 9]]),  # IoU 70 / 130
        torch.tensor([0.8, 0.7]),
        torch.tensor([4, 4]),
    )
    second = found(
        torch.tensor([[-3.0, 0, 6, 9]]), torch.tensor([0.9]), torch.tensor([4])
    )  # IoU 70 / 130 with the first box, 40 / 160 with the second
    merged = postprocessor.merge([first, second], deferred={4})
    assert merged.scores.tolist() == pytest.approx([0.9, 0.7])


def test_candidates_of_deferred_classes_are_left_for_the_merge():
    parts, class_map = levels(seed=4), ClassMap.build(prompt([4, 9]), positive_map(2))
    plain = detect(make(nms_threshold=0.3), parts, class_map)
    deferring = detect(make(nms_threshold=0.3), parts, class_map, deferred={9})
    assert (deferring.classes == 9).sum() > (plain.classes == 9).sum()
    assert (deferring.classes == 4).sum() == (plain.classes == 4).sum()
    merged = make(nms_threshold=0.3).merge([deferring], deferred={9})
    assert merged.scores.tolist() == pytest.approx(plain.scores.tolist())


def test_which_classes_are_asked_twice():
    prompts = [prompt([4, 9, 9]), prompt([1, 4]), prompt([2])]
    assert deferred_classes(prompts) == {4}  # 9 has two names in one prompt
    assert deferred_classes(prompts[:1]) == set()


def test_a_box_that_a_negative_describes_better_is_left_out():
    """Three classes at one place and one elsewhere; the negative beats what scores less than it."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [0, 2, 9, 9], [40, 40, 49, 49]])
    first = found(boxes, torch.tensor([0.9, 0.5, 0.4, 0.3]), torch.tensor([0, 1, 2, 2]))
    negative = found(boxes[:1], torch.tensor([0.6]), torch.tensor([NEGATIVE]))
    postprocessor = make(nms_threshold=0.6)
    merged = postprocessor.merge([first, negative], deferred={NEGATIVE})
    assert merged.scores.tolist() == pytest.approx([0.9, 0.3])  # IoU 0.8 of the third
    assert merged.classes.tolist() == [0, 2]
    looser = make(nms_threshold=0.85).merge([first, negative], deferred={NEGATIVE})
    assert looser.scores.tolist() == pytest.approx([0.9, 0.4, 0.3])
    tie = negative._replace(scores=torch.tensor([0.5]))
    assert postprocessor.merge([first, tie], deferred={NEGATIVE}).classes.tolist() == [0, 1, 2]


def test_negatives_take_no_place_of_a_prompt_and_are_never_detected():
    parts = levels(seed=5)
    limited = make(detections_per_prompt=3, nms_threshold=0.3)
    alone = detect(limited, parts, ClassMap.build(prompt([4]), positive_map(1)))
    both = prompt([4, NEGATIVE])
    assert deferred_classes([both]) == {NEGATIVE}
    class_map = ClassMap.build(both, positive_map(2))
    chunk = detect(limited, parts, class_map, deferred={NEGATIVE})
    assert (chunk.classes == 4).sum() == len(alone.classes) == 3
    assert (chunk.classes == NEGATIVE).sum() > 3
    left = limited.merge([chunk], deferred={NEGATIVE})
    assert set(left.classes.tolist()) == {4} and len(left.classes) < 3


def test_class_names_of_several_prompts():
    prompts = [
        Prompt.from_classes(["cat", "kitten"], [4, 4]),  # two names of one class: the first counts
        Prompt.from_classes(["dog"], [1]),
        Prompt.from_classes(["puppy"], [1]),
    ]
    instances = make().to_instances(grid([0.9, 0.8, 0.7], [1, 4, 1]), prompts, SIZE)
    assert list(instances.pred_phrases) == ["dog", "cat", "dog"]
    assert isinstance(instances, Instances) and isinstance(instances.pred_boxes, Boxes)
    assert instances.image_size == SIZE
    # Inclusive [0, 9] is the continuous [0, 10].
    assert instances.pred_boxes.tensor[0].tolist() == [0, 0, 10, 10]


def test_nms_threshold_is_strict():
    # 100 x 100 pixels, one moved by 25: overlap 7500 of 12500 is 0.6 exactly, with the +1.
    boxes = torch.tensor([[0.0, 0.0, 99.0, 99.0], [25.0, 0.0, 124.0, 99.0]])
    scores, classes = torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.long)
    detections = found(boxes, scores, classes)
    assert len(make(nms_threshold=0.6).merge([detections], {0}).scores) == 2
    assert len(make(nms_threshold=0.5999).merge([detections], {0}).scores) == 1
    without_plus_one = 74 * 99 / (2 * 99 * 99 - 74 * 99)
    assert without_plus_one < 0.5999  # so the legacy convention decides


def test_nms_with_many_classes_near_the_threshold():
    """Class-aware NMS must not lose the digits of the boxes to the separation of the classes."""
    generator = torch.Generator().manual_seed(0)
    pairs = 300
    start = torch.rand(pairs, 2, generator=generator) * 900
    width = 60 + torch.rand(pairs, generator=generator) * 200
    # IoU (1 - s) / (1 + s) of two boxes moved by s of their width: 0.6 +- 1e-4 around s = 0.25.
    above = torch.arange(pairs) % 2 == 0
    shift = width * torch.where(above, 0.25 - 1e-4, 0.25 + 1e-4)
    first = torch.cat((start, start + width[:, None] - 1), dim=1)
    second = first.clone()
    second[:, [0, 2]] += shift[:, None]
    label = torch.randperm(1203, generator=generator)[:pairs]  # as many classes as LVIS has
    scores = torch.linspace(0.9, 0.1, 2 * pairs)
    detections = found(torch.cat((first, second)), scores, label.repeat(2))
    kept = make().merge([detections], deferred=set(label.tolist()))
    expected = torch.cat((torch.ones(pairs, dtype=torch.bool), ~above))
    torch.testing.assert_close(kept.scores, scores[expected])
    assert torch.equal(kept.classes, label.repeat(2)[expected])
