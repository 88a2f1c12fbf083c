"""Regions with given boxes: hand-worked ranks and accuracies, however the images are shared out."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import RegionClassificationEvaluator, RegionRetrievalEvaluator
from glipv2_d2.evaluation.build import build_evaluator


def annotation(**fields):
    return {"bbox": [1, 2, 10, 20], "bbox_mode": BoxMode.XYWH_ABS, **fields}


def spans_of(caption, phrase):
    start = caption.index(phrase)
    return [[start, start + len(phrase)]]


def sentence(image_id, caption, *phrases):
    annotations = [annotation(spans=spans_of(caption, phrase)) for phrase in phrases]
    record = {"image_id": image_id, "file_name": f"{image_id}.jpg", "caption": caption}
    return {**record, "height": 50, "width": 60, "annotations": annotations}


SENTENCES = [
    sentence(5, "a cat and a dog", "a cat", "a dog"),
    sentence(3, "nothing here"),
    sentence(9, "a cat under the moon", "a cat", "the moon"),
]
# Directions of the texts and of the regions; the cat of image 9 looks like a dog.
DIRECTIONS = {"a cat": [1.0, 0, 0], "a dog": [0, 1.0, 0], "the moon": [0, 0, 1.0]}
SEEN = {5: [[0.8, 0.6, 0], [0, 1.0, 0]], 3: [], 9: [[0.6, 0.8, 0], [0, 0, 1.0]]}

PAIRS = ("red star", "blue_ring (toy)", "moon")
DETECTION = [
    {
        "image_id": i,
        "file_name": f"{i}.jpg",
        "height": 50,
        "width": 60,
        "annotations": [annotation(category_id=c, iscrowd=crowd) for c, crowd in classes],
    }
    for i, classes in enumerate([[(0, 0), (0, 0), (2, 1)], [(1, 0)], [(0, 0), (1, 0), (2, 0)]])
]


@pytest.fixture(autouse=True)
def data_sets():
    DatasetCatalog.register("sentences", lambda: SENTENCES)
    DatasetCatalog.register("pairs", lambda: DETECTION)
    MetadataCatalog.get("pairs").set(thing_classes=list(PAIRS))


def answer(evaluator, batch, seen=SEEN, directions=DIRECTIONS):
    """What a model gives to the boxes and texts that the evaluator asks for."""
    outputs = []
    for x in map(evaluator.with_boxes, batch):
        assert x["boxes"] == [[1, 2, 11, 22]] * len(x["boxes"])
        regions = torch.tensor(seen[x["image_id"]]).reshape(-1, 3)
        texts = torch.tensor([directions[text] for text in x["texts"]]).reshape(-1, 3)
        outputs.append({"region_embeddings": regions, "text_embeddings": texts})
    evaluator.process(batch, outputs)


def retrieval(**options):
    return RegionRetrievalEvaluator("sentences", distributed=False, **options)


def test_retrieval_by_hand(tmp_path):
    """Four regions, three distinct texts. The cat of image 9 is nearer to "a dog"; "a cat" has the
    cat of image 5 first."""
    evaluator = retrieval(output_dir=str(tmp_path))
    answer(evaluator, SENTENCES)
    expected = {"r2t_R@1": 75, "r2t_R@10": 100, "t2r_R@1": 100, "t2r_R@10": 100}
    assert evaluator.evaluate() == {"region_retrieval": expected}
    rows = json.loads((tmp_path / "sentences.json").read_text())
    assert [row["text"] for row in rows] == ["a cat", "a dog", "a cat", "the moon"]
    assert [row["rank"] for row in rows] == [1, 1, 2, 1]
    assert [row["rank_of_text"] for row in rows] == [1, 1, 1, 1]
    assert rows[2]["image_id"] == 9
    assert rows[2]["box"] == [1, 2, 11, 22]


def test_recall_at_10_and_ties():
    """Twelve texts and regions: what is at place 11 is not found; of all alike nothing is."""
    words = [f"w{i}" for i in range(12)]
    records = [sentence(i, word, word) for i, word in enumerate(words)]
    DatasetCatalog.register("words", lambda: records)
    evaluator = RegionRetrievalEvaluator("words", distributed=False)

    def evaluate(regions):
        evaluator.reset()
        for i, record in enumerate(records):
            text = torch.eye(12)[i : i + 1]
            embedded = {"region_embeddings": regions[i : i + 1], "text_embeddings": text}
            evaluator.process([record], [embedded])
        return evaluator.evaluate()["region_retrieval"]

    ramp = torch.arange(12.0, 0, -1).expand(12, 12)  # every region is likest to w0
    found = evaluate(ramp)
    assert found["r2t_R@10"] == pytest.approx(100 * 10 / 12)
    assert found["r2t_R@1"] == pytest.approx(100 / 12)
    assert found["t2r_R@10"] == 0  # to each text all regions are equally like
    assert evaluate(torch.ones(12, 12))["r2t_R@10"] == 0
    assert set(evaluate(torch.eye(12)).values()) == {100}


@pytest.mark.parametrize("size", [1, 3])
def test_batches_order_and_processes_make_no_difference(size):
    expected = retrieval()
    answer(expected, SENTENCES)
    shuffled = [SENTENCES[2], SENTENCES[0], SENTENCES[1]]
    one, other = retrieval(), retrieval()
    for evaluator, share in ((one, shuffled[:1]), (other, shuffled[1:])):
        for start in range(0, len(share), size):
            answer(evaluator, share[start : start + size])
    assert one.score([one.collected(), other.collected()]) == expected.evaluate()


def classification(**options):
    return RegionClassificationEvaluator("pairs", distributed=False, **options)


NAMES = {"red star": [1.0, 0, 0], "blue ring": [0, 1.0, 0], "moon": [0, 0, 1.0]}
RED, BLUE, MOON = NAMES.values()


def test_classification_by_hand(tmp_path):
    """Stars 2 of 3, rings 1 of 2, moon 0 of 1; the crowd of moons is not asked about."""
    evaluator = classification(output_dir=str(tmp_path))
    answer(evaluator, DETECTION, {0: [RED, BLUE], 1: [BLUE], 2: [RED, MOON, RED]}, NAMES)
    found = evaluator.evaluate()["region_classification"]
    assert found == pytest.approx({"mAcc": 100 * (2 / 3 + 1 / 2 + 0) / 3, "acc": 50})
    rows = json.loads((tmp_path / "pairs.json").read_text())
    assert [row["class"] for row in rows[:2]] == ["red star", "blue ring"]


def test_classification_averages_over_the_evaluated_classes():
    MetadataCatalog.get("pairs").set(evaluated_classes=["blue_ring (toy)"])
    evaluator = classification()
    answer(evaluator, DETECTION, {0: [RED, BLUE], 1: [BLUE], 2: [RED, MOON, RED]}, NAMES)
    assert evaluator.evaluate()["region_classification"] == {"mAcc": 50, "acc": 50}
    MetadataCatalog.get("pairs").evaluated_classes.clear()
    evaluator = classification()
    answer(evaluator, DETECTION, {0: [RED, BLUE], 1: [BLUE], 2: [RED, MOON, RED]}, NAMES)
    with pytest.raises(DataError, match="has no box of the classes that are evaluated"):
        evaluator.evaluate()


def test_detection_may_be_retrieved_too():
    evaluator = RegionRetrievalEvaluator("pairs", distributed=False)
    answer(evaluator, DETECTION, {0: [RED, RED], 1: [BLUE], 2: [RED, BLUE, MOON]}, NAMES)
    assert set(evaluator.evaluate()["region_retrieval"].values()) == {100}


class Embedder:
    """A `RegionEmbedder` that remembers what it was shown."""

    dim = 3

    def __init__(self):
        self.texts, self.images = [], []

    def embed_texts(self, texts):
        self.texts += texts
        return np.array([DIRECTIONS[text] for text in texts], np.float32)

    def embed_regions(self, images, boxes):
        self.images += images
        seen = np.array(SEEN[int(images[0].removesuffix(".jpg"))], np.float32)
        return [type("Regions", (), {"embeddings": seen})]


def test_any_embedder_can_be_evaluated():
    expected = retrieval()
    answer(expected, SENTENCES)
    embedder = Embedder()
    assert retrieval().evaluate_embedder(embedder) == expected.evaluate()
    assert embedder.texts == list(DIRECTIONS)
    assert embedder.images == ["5.jpg", "9.jpg"]


def test_is_chosen_by_the_type_of_a_data_set():
    MetadataCatalog.get("sentences").set(evaluator_type="region_retrieval")
    assert isinstance(build_evaluator("sentences", distributed=False), RegionRetrievalEvaluator)


def test_refuses():
    with pytest.raises(DataError, match="no registered data set 'none'"):
        RegionRetrievalEvaluator("none")
    DatasetCatalog.register("empty", lambda: [SENTENCES[1]])
    with pytest.raises(DataError, match="no image of the data set 'empty' has a box"):
        RegionRetrievalEvaluator("empty")
    with pytest.raises(DataError, match="'sentences' has no class names"):
        RegionClassificationEvaluator("sentences")
    evaluator = retrieval()
    with pytest.raises(DataError, match="no 'region_embeddings'. These are evaluated of a CLOC"):
        evaluator.process([SENTENCES[0]], [{"instances": None}])
    with pytest.raises(DataError, match="image 9: embeddings are NaN or infinite"):
        answer(evaluator, [SENTENCES[2]], {9: [[torch.nan, 0, 0], RED]})
    with pytest.raises(DataError, match="there is no image 77"):
        answer(evaluator, [{**SENTENCES[0], "image_id": 77}], {77: []})
    evaluator = retrieval()
    answer(evaluator, SENTENCES[:1])
    with pytest.raises(DataError, match="2 of 3 images were not evaluated"):
        evaluator.evaluate()
