"""An image that is encoded once and asked many times, by several threads, too."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

from glipv2_d2 import Prompt
from glipv2_d2.engine.asked import to_detect
from glipv2_d2.engine.encoded_image import ask_together, encode_together
from glipv2_d2.engine.image_input import image_input
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.errors import ConfigError, PromptError, UserError
from glipv2_d2.modeling.heads import PresenceHead
from tests.support.tiny import tiny_masks_model

NAMES = ["cat", "dog", "red kite"]


def image(height=64, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def equal(a, b):
    """Bit by bit."""
    assert len(a) == len(b) > 2
    assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
    assert torch.equal(a.scores, b.scores) and a.pred_phrases == b.pred_phrases
    assert a.has("pred_masks") == b.has("pred_masks")
    if a.has("pred_masks"):
        first, second = (getattr(x.pred_masks, "tensor", x.pred_masks) for x in (a, b))
        assert torch.equal(first, second)


@pytest.fixture(scope="module")
def masks_predictor():
    return GroundingPredictor(tiny_masks_model(), min_size=64, max_size=128)


def test_an_image_is_encoded_once_and_asked_again(masks_predictor):
    predictor, calls = masks_predictor, []
    hook = predictor.model.backbone.register_forward_hook(lambda *args: calls.append(1))
    encoded = predictor.set_image(image())
    vocabulary = [f"thing number {i}" for i in range(300)]
    prompts = [NAMES, "a [red kite] above a [dog]", Prompt.from_classes(["cat"]), vocabulary]
    found = [encoded.predict(prompt) for prompt in prompts]
    assert len(calls) == 1
    hook.remove()
    for prompt, instances in zip(prompts, found):
        assert instances.pred_masks.shape == (len(instances), 64, 80)
        equal(instances, predictor(image(), prompt)[0])
    options = {"score_threshold": found[0].scores[9].item(), "merge_iou": 0.9, "masks": False}
    best = encoded.predict(NAMES, **options)
    assert len(best) <= 10 and not best.has("pred_masks")
    equal(best, predictor(image(), NAMES, **options)[0])
    with pytest.raises(UserError, match="merge_iou must"):
        encoded.predict(NAMES, merge_iou=70)
    with pytest.raises(UserError, match="2 captions are given for 1 image"):
        encoded.predict(["a [cat]", "a [dog]"])


def test_several_encoded_images_do_not_disturb_each_other(masks_predictor):
    first, second = (masks_predictor.set_image(image(seed=i)) for i in (1, 2))
    equal(first.predict(NAMES), masks_predictor(image(seed=1), NAMES)[0])
    equal(second.predict(NAMES), masks_predictor(image(seed=2), NAMES)[0])


def test_threads_share_a_predictor():
    """Eight threads, 25 calls each, of all kinds: as one after the other."""
    model = tiny_masks_model()
    del model.neck.blocks[1:]  # what is shared is the same, and a call takes half the time
    predictor = GroundingPredictor(model, min_size=32, max_size=64)
    pixels = [image(32, 40, seed) for seed in range(2)]
    encoded = predictor.set_image(pixels[0])
    shown = torch.from_numpy(pixels[1]).permute(2, 0, 1)
    inputs = [{"image": shown, "prompt": Prompt.from_classes(NAMES)}]

    @torch.no_grad()
    def pasted():
        return predictor.model(inputs)[0]["instances"]

    @torch.no_grad()
    def small():
        return predictor.model.inference(inputs, do_postprocess=False)[0]

    kinds = [
        lambda: predictor(pixels[0], NAMES)[0],
        lambda: predictor(pixels[1], "a [cat] and a [dog]", masks=False)[0],
        lambda: encoded.predict(["red kite", "cat"]),
        lambda: encoded.predict("a [dog]", masks=False),
        small,
        pasted,
    ]
    expected = [kind() for kind in kinds]

    def work(thread):
        predictor.model.text_cache.clear()
        return [(k, kinds[k]()) for k in ((thread + call) % len(kinds) for call in range(25))]

    with ThreadPoolExecutor(8) as pool:
        results = [pair for pairs in pool.map(work, range(8)) for pair in pairs]
    assert len(results) == 200
    for kind, found in results:
        equal(found, expected[kind])
    rows = instances_to_coco_json(pasted(), 7)
    assert len(rows) > 5 and all("segmentation" in row for row in rows)


def test_images_that_are_encoded_and_asked_together_are_as_those_alone(masks_predictor):
    """Of two padded sizes, one image twice; sums run in another order, so not bit by bit."""
    pixels = [image(seed=1), image(64, 128, seed=2), image(seed=3)]
    together = encode_together(
        masks_predictor, [image_input(masks_predictor, x, "image") for x in pixels]
    )
    assert [x.size for x in together] == [(64, 80), (64, 128), (64, 80)]
    alone = [masks_predictor.set_image(x) for x in pixels]
    assert [x.memory for x in together] == [x.memory for x in alone]
    asked = [(2, NAMES), (1, "a [dog]"), (0, ["thing"]), (0, "a [cat] and a [dog]")]
    requests = [to_detect(masks_predictor, prompt, 1, 0.3, None, True) for _, prompt in asked]
    found = ask_together([(together[i], r) for (i, _), r in zip(asked, requests)])
    for (i, prompt), instances in zip(asked, found):
        expected = alone[i].predict(prompt, score_threshold=0.3)
        assert len(instances) == len(expected) > 2
        assert instances.pred_phrases == expected.pred_phrases
        close = {"rtol": 0, "atol": 1e-3}
        torch.testing.assert_close(instances.pred_boxes.tensor, expected.pred_boxes.tensor, **close)
        torch.testing.assert_close(instances.scores, expected.scores, rtol=0, atol=1e-5)
        assert (instances.pred_masks != expected.pred_masks).float().mean() < 1e-3


def test_how_likely_each_phrase_is_there(masks_predictor):
    """Of all prompts of a long list, of a sentence, and not of what reads no image."""
    head = L(PresenceHead)(text_channels="${..neck.text_channels}")
    told = GroundingPredictor(tiny_masks_model(presence_head=head), min_size=64, max_size=128)
    encoded = told.set_image(image())
    vocabulary = [f"thing number {i}" for i in range(100)]
    presence = encoded.presence(vocabulary)
    assert [name for name, _ in presence] == vocabulary
    assert all(0 < probability < 1 for _, probability in presence)
    assert [name for name, _ in encoded.presence("a [dog] and a [cat]")] == ["dog", "cat"]
    with pytest.raises(PromptError, match="not of questions or captions"):
        encoded.presence(Prompt.from_caption("is it red?", [], kind="question"))
    with pytest.raises(ConfigError, match=r"a model with model\.presence_head"):
        masks_predictor.set_image(image()).presence(NAMES)
