"""GLIPv2's contrast as an embedder of regions and texts."""

import math

import numpy as np
import pytest
import torch

from glipv2_d2.engine.contrast_embedder import ContrastEmbedder
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.engine.region_embedding import grid_boxes
from glipv2_d2.errors import ConfigError, PromptError, UsageError
from glipv2_d2.modeling.boxes import to_inclusive
from tests.support.tiny import tiny_model
from tests.support.tiny_contrast import tiny_contrast_model

TEXT = "a [red kite] above a [dog]"


def photo(seed=0, height=64, width=80):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def contrast_predictor():
    return GroundingPredictor(tiny_contrast_model(), min_size=64, max_size=128, score_threshold=0.3)


def test_a_region_is_the_mean_of_the_positions_that_its_box_would_be_learnt_from(
    contrast_predictor,
):
    boxes = np.array([[10, 12, 50, 44], [0, 0, 80, 64], [12, 12, 50, 46]], dtype=np.float32)
    image = photo(1, 128, 160)  # which the model sees in half its size
    (regions,) = ContrastEmbedder(contrast_predictor).embed_regions([image], [2 * boxes])
    model, seen = contrast_predictor.glip, contrast_predictor.set_image(image).encoded
    with torch.no_grad():
        positions = model.contrast.embed_regions(seen.features)[0].numpy()
    for box, embedding in zip(boxes, regions.embeddings):
        own = to_inclusive(torch.from_numpy(box)[None])
        matched = model.losses.matcher(model.anchors(seen.features), own) == 0
        mean = positions[matched.numpy()].mean(axis=0)
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-6)
    assert regions.scores is None and regions.boxes.tolist() == (2 * boxes).tolist()


def test_a_box_between_two_positions_has_the_nearest(contrast_predictor):
    boxes = np.array([[20.1, 20.1, 20.4, 20.4]], dtype=np.float32)
    (regions,) = ContrastEmbedder(contrast_predictor).embed_regions([photo()], [boxes])
    seen = contrast_predictor.set_image(photo()).encoded
    with torch.no_grad():
        positions = contrast_predictor.glip.contrast.embed_regions(seen.features)[0]
    columns = seen.features[0].shape[-1]
    np.testing.assert_allclose(regions.embeddings[0], positions[2 * columns + 2], atol=1e-6)


def test_regions_without_boxes_are_detected_or_a_grid(contrast_predictor):
    images = [photo(), photo(1, 64, 64), photo(2)]
    for image, regions in zip(images, ContrastEmbedder(contrast_predictor).embed_regions(images)):
        np.testing.assert_array_equal(regions.boxes, grid_boxes(*image.shape[:2]))
    found = ContrastEmbedder(contrast_predictor, "cat, dog").embed_regions(images)
    assert sum(len(regions.boxes) for regions in found)
    for image, regions in zip(images, found):
        (expected,) = contrast_predictor(image, "cat, dog")
        np.testing.assert_allclose(regions.boxes, expected.pred_boxes.tensor, atol=1e-3)
        np.testing.assert_allclose(regions.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(regions.embeddings, axis=1), 1, atol=1e-5)
    nothing = photo(3)
    contrast_predictor.score_threshold = 1.0
    (regions,) = ContrastEmbedder(contrast_predictor, "cat").embed_regions([nothing])
    contrast_predictor.score_threshold = 0.3
    assert regions.embeddings.shape == (0, 64)


def test_a_text_is_about_its_first_phrase(contrast_predictor):
    embedder = ContrastEmbedder(contrast_predictor)
    kite, *same = embedder.embed_texts(["red kite", TEXT, "a red kite above a dog", " red kite "])
    dog, bracketed = embedder.embed_texts(["dog", "a red kite above a [dog]"])
    for vector in same:
        np.testing.assert_allclose(vector, kite, atol=1e-6)
    np.testing.assert_allclose(bracketed, dog, atol=1e-6)
    assert kite @ dog < 0.999 and math.isclose(np.linalg.norm(kite), 1, abs_tol=1e-5)
    assert np.isfinite(embedder.embed_texts(["ein roter Drachen", "赤い凧"])).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty"),
        (" \n", "the text is empty"),
        ("a [ ] above", "empty brackets"),
        ("\N{ZERO WIDTH SPACE}", "has no token"),
        ("kite " * 400, "tokens"),
    ],
)
def test_a_text_that_says_nothing(contrast_predictor, text, message):
    with pytest.raises(PromptError, match=message):
        ContrastEmbedder(contrast_predictor).embed_texts([text])


def test_the_rest_of_a_text_counts_when_it_is_grounded(contrast_predictor):
    embedder = ContrastEmbedder(contrast_predictor)
    found = embedder.ground([photo(), photo(1)], TEXT)
    for grounded, seed in zip(found, range(2)):
        (instances,) = contrast_predictor(photo(seed), TEXT, score_threshold=0, merge_iou=1)
        best = [instances[instances.pred_classes == phrase][0] for phrase in range(2)]
        assert grounded.box == pytest.approx(best[0].pred_boxes.tensor[0].tolist(), abs=1e-3)
        assert grounded.score == pytest.approx(float(best[0].scores * best[1].scores), abs=1e-5)


def test_a_fingerprint_is_of_the_weights_and_of_what_the_boxes_depend_on(contrast_predictor):
    fingerprint = ContrastEmbedder(contrast_predictor, "cat").fingerprint
    contrast_predictor.batch_size = 3
    assert ContrastEmbedder(contrast_predictor, "cat").fingerprint == fingerprint
    others = [ContrastEmbedder(contrast_predictor, prompt).fingerprint for prompt in ("dog", "")]
    weight = contrast_predictor.glip.contrast.word_projection.weight
    with torch.no_grad():
        weight[0, 0] += 1
        others.append(ContrastEmbedder(contrast_predictor, "cat").fingerprint)
        weight[0, 0] -= 1
    assert len({fingerprint, *others}) == 4


def test_what_cannot_be_embedded(contrast_predictor):
    plain = GroundingPredictor(tiny_model(), min_size=64, max_size=128)
    with pytest.raises(ConfigError, match=r"region search .* this model has none.*model\.contrast"):
        ContrastEmbedder(plain)
    with pytest.raises(UsageError, match="inside the image of 80x64"):
        ContrastEmbedder(contrast_predictor).embed_regions([photo()], [np.array([[0, 0, 99, 9]])])
