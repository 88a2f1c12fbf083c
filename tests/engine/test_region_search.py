"""An index with its model: what the vectors find, and what the fused model makes of it."""

import cv2
import numpy as np
import pytest
import torch

from glipv2_d2.checkpoint import release_state, save_safetensors
from glipv2_d2.engine.contrast_embedder import ContrastEmbedder
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.engine.region_embedding import grid_boxes
from glipv2_d2.engine.region_search import RegionSearch, region_embedder
from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.search.store import ImageRegions, RegionStore
from tests.support.tiny_cloc import tiny_cloc
from tests.support.tiny_contrast import tiny_contrast_model

TEXT = "a cat left of a dog"


@pytest.fixture(scope="module")
def region_search(module_path):
    predictor = GroundingPredictor(tiny_contrast_model(), min_size=64, max_size=128)
    embedder = ContrastEmbedder(predictor, "cat, dog")
    store = RegionStore.for_writing(module_path / "index", embedder.fingerprint, embedder.dim, {})
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        file = str(module_path / f"{seed}.png")
        cv2.imwrite(file, pixels)
        (regions,) = embedder.embed_regions([pixels])
        store.add(
            [ImageRegions(file, None, 48, 64, regions.boxes, regions.scores, regions.embeddings)]
        )
    return RegionSearch(store, embedder)


def test_which_texts_are_looked_at_again(region_search):
    assert region_search.images_to_rerank("red cat", 10, None) == 0
    assert region_search.images_to_rerank(TEXT, 10, None) == 20
    assert region_search.images_to_rerank(TEXT, 50, None) == 50
    assert region_search.images_to_rerank(TEXT, 10, 0) == 0
    assert region_search.text(TEXT, 3, 0) == region_search.nearest("cat", 3)


def test_what_the_fused_model_finds_is_ranked(region_search):
    matches = region_search.text(TEXT, 10)
    assert {match.file for match in matches} == {
        match.file for match in region_search.images(TEXT, 20)
    }
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0
    (found,) = region_search._embedder.ground([matches[0].file], TEXT)
    assert (matches[0].box, matches[0].score) == found
    assert region_search.text(TEXT, 2, 4) == matches[:2]


def test_an_image_that_is_gone_is_told_and_left_out(region_search, caplog):
    first = region_search.nearest("cat", 1)[0]
    assert region_search.look(first._replace(file="gone.png"), TEXT) is None
    assert "gone.png cannot be looked at: there is no image file" in caplog.text


def test_a_cloc_embeds_a_grid(tmp_path):
    config, weights = tmp_path / "cloc.py", tmp_path / "cloc.safetensors"
    config.write_text(
        "from tests.support.tiny_cloc import tiny_cloc_config\n\nmodel = tiny_cloc_config()\n"
    )
    save_safetensors(release_state(tiny_cloc(), torch.float32), weights, {})
    made_by = {"config": str(config), "weights": str(weights), "overrides": [], "prompt": ""}
    embedder = region_embedder(made_by, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    (regions,) = embedder.embed_regions([image])
    np.testing.assert_array_equal(regions.boxes, grid_boxes(48, 64))
    file = str(tmp_path / "image.png")
    cv2.imwrite(file, image)
    folder = tmp_path / "index"
    with RegionStore.for_writing(folder, embedder.fingerprint, embedder.dim, made_by) as store:
        store.add([ImageRegions(file, None, 48, 64, regions.boxes, None, regions.embeddings)])
        search = RegionSearch(store, embedder)
        assert search.images_to_rerank(TEXT, 10, 5) == 0
        best = search.example(image, [16, 12, 32, 24], 3)[0]
        assert best.box == [16, 12, 32, 24] and best.score == pytest.approx(1, abs=1e-5)
        (vector,) = embedder.embed_texts(["a cat"])
        expected = (regions.embeddings @ vector).max()
        assert search.text("a cat", 1)[0].score == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UsageError, match="a CLOC detects nothing: leave out --prompt"):
        region_embedder({**made_by, "prompt": "cat"})


def test_an_index_of_other_weights_is_refused(region_search, module_path):
    other = tiny_contrast_model()
    other.contrast.word_projection.bias.data += 1
    embedder = ContrastEmbedder(GroundingPredictor(other, min_size=64, max_size=128), "cat, dog")
    region_search.store.made_by["weights"] = "w.safetensors"
    with pytest.raises(DataError, match=r"made with w\.safetensors as it was then"):
        RegionSearch(region_search.store, embedder)
