"""A CLOC in use: images encoded once, boxes, texts, and what a region search asks for."""

import numpy as np
import pytest
import torch
from PIL import Image

from glipv2_d2.checkpoint import release_state, save_safetensors
from glipv2_d2.engine import CLOCPredictor
from glipv2_d2.engine.region_embedding import grid_boxes
from glipv2_d2.errors import CheckpointError, ConfigError, PromptError, UsageError
from tests.support.tiny import tiny_model
from tests.support.tiny_cloc import tiny_cloc

BOXES = [[10, 5, 60, 40], [0, 0, 80, 50]]


@pytest.fixture(scope="module")
def cloc():
    return CLOCPredictor(tiny_cloc())


def pixels(seed=0, height=50, width=80):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_encoding_answers_everything(cloc):
    picture = cloc.set_image(pixels())
    (regions,) = cloc.embed_regions([pixels()], [np.array(BOXES)])
    np.testing.assert_allclose(picture.embed_boxes(BOXES), regions.embeddings, atol=1e-6)
    np.testing.assert_allclose(picture.embedding, cloc.embed_images(pixels())[0], atol=1e-6)
    texts = cloc.embed_texts(["a star", "a moon"])
    assert texts.shape == (2, cloc.dim)
    for vectors in (texts, regions.embeddings, picture.embedding[None]):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(regions.embeddings[0] - regions.embeddings[1]).max() > 1e-3


def test_a_box_is_what_the_model_was_shown(cloc):
    """80 x 50 pixels become 32 x 20 of the square's 32; RGB is what the tower wants."""
    picture, model = cloc.set_image(pixels()), cloc.model
    box = torch.tensor([[10, 5, 60, 40]]) * 0.4 / 32
    with torch.no_grad():
        found = model.embed_boxes(picture._encoded, torch.zeros(1, dtype=torch.int64), box)
    np.testing.assert_allclose(picture.embed_boxes(BOXES[:1]), found, atol=1e-6)
    swapped = cloc.set_image(pixels()[:, :, ::-1].copy())
    assert np.abs(swapped.embedding - picture.embedding).max() > 1e-3


def test_where_a_text_is(cloc):
    picture = cloc.set_image(pixels())
    boxes = picture.locate(["a star", "a moon", "a ring"])
    assert boxes.shape == (3, 4)
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert (boxes <= [80, 50, 80, 50]).all()
    with torch.no_grad():
        (raw,) = cloc.model.locate(picture._encoded, ["a star"])
    low, high = np.sort(raw.numpy().reshape(2, 2) * 80, axis=0).clip(0, [80, 50])
    np.testing.assert_allclose(boxes[0], [*low, *high], rtol=1e-5)


def test_regions_of_a_grid_and_in_batches():
    cloc = CLOCPredictor(tiny_cloc(), batch_size=2)
    images = [pixels(i, 50, 80 - 10 * i) for i in range(3)]
    found = cloc.embed_regions(images)
    for image, regions in zip(images, found):
        assert np.array_equal(regions.boxes, grid_boxes(*image.shape[:2]))
        (alone,) = cloc.embed_regions([image], [regions.boxes[:3]])
        np.testing.assert_allclose(alone.embeddings, regions.embeddings[:3], atol=1e-6)
        assert regions.scores is None
    assert cloc.embed_images(images).shape == (3, cloc.dim)


def test_images_are_read_batch_by_batch(tmp_path, monkeypatch):
    """A folder of photos does not fit the memory; here the later ones come when the first are
    asked about."""
    cloc = CLOCPredictor(tiny_cloc(), batch_size=2)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    run, sizes = cloc.model.inference, []

    def write(some):
        for path in some:
            Image.fromarray(pixels()).save(path)

    def spied(inputs):
        sizes.append(len(inputs))
        write(paths[2:])
        return run(inputs)

    write(paths[:2])
    monkeypatch.setattr(cloc.model, "inference", spied)
    assert cloc.embed_images(paths).shape == (5, cloc.dim)
    assert sizes == [2, 2, 1]


def test_the_fingerprint_is_of_weights_and_settings(cloc):
    assert CLOCPredictor(tiny_cloc()).fingerprint == cloc.fingerprint
    assert CLOCPredictor(tiny_cloc(seed=1)).fingerprint != cloc.fingerprint
    assert CLOCPredictor(tiny_cloc(), precision="bf16").fingerprint != cloc.fingerprint


def test_from_a_config_and_a_file(cloc, tmp_path):
    state = release_state(cloc.model, torch.float32)
    weights = save_safetensors(state, tmp_path / "cloc.safetensors", {})
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
    changes = {
        "visual.image_size": 32,
        "visual.sizes": str(sizes).replace("'", ""),
        "language_backbone.width": 16,
        "language_backbone.num_layers": 2,
        "language_backbone.max_tokens": 24,
        "prompter.channels": 16,
        "embed_channels": 8,
    }
    overrides = [f"model.{key}={value}" for key, value in changes.items()]
    found = CLOCPredictor.from_config("demo/scenes_cloc.py", weights, overrides=overrides)
    assert found.fingerprint == cloc.fingerprint
    with pytest.raises(CheckpointError, match="another size of model"):
        CLOCPredictor.from_config("demo/scenes_cloc.py", weights)


def test_refuses(cloc):
    picture = cloc.set_image(pixels())
    for boxes in ([[10, 5, 81, 40]], [[-1, 5, 60, 40]], [[10, 5, 10, 40]], []):
        with pytest.raises(UsageError, match="inside the image of 80x50"):
            picture.embed_boxes(boxes)
    for texts in ("a star", [], ["a star", " "]):
        with pytest.raises(PromptError, match="give a list of texts, none of them empty"):
            cloc.embed_texts(texts)
        with pytest.raises(PromptError, match="give a list of texts, none of them empty"):
            picture.locate(texts)
    with pytest.raises(PromptError, match="the limit is 24"):
        cloc.embed_texts(["a star"] * 2 + ["far too long " * 20])
    with pytest.raises(UsageError, match="GLIP is no CLOC: take GroundingPredictor"):
        CLOCPredictor(tiny_model())
    with pytest.raises(ConfigError, match="must be 'fp32' or 'bf16'"):
        CLOCPredictor(cloc.model, precision="fp16")
