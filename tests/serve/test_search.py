"""An index behind the REST interface."""

import io

import numpy as np
import pytest
from PIL import Image

from glipv2_d2.cli import serve
from glipv2_d2.engine.contrast_embedder import ContrastEmbedder
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.engine.region_search import RegionSearch
from glipv2_d2.errors import UsageError
from glipv2_d2.search.store import ImageRegions, RegionStore
from tests.support.served import asking, pixels, png
from tests.support.tiny_contrast import tiny_contrast_model

TEXT = "a cat left of a dog"


@pytest.fixture(scope="module")
def served_index(module_path):
    """A predictor, and the index of three images that was made with it."""
    predictor = GroundingPredictor(tiny_contrast_model(), min_size=64, max_size=128, batch_size=2)
    embedder = ContrastEmbedder(predictor, "cat, dog")
    folder = module_path / "index"
    store = RegionStore.for_writing(
        folder, embedder.fingerprint, embedder.dim, {"prompt": "cat, dog", "weights": "w"}
    )
    for seed in range(3):
        (module_path / f"{seed}.png").write_bytes(png(seed))
        (regions,) = embedder.embed_regions([pixels(seed)])
        boxes, embeddings, scores = regions
        file = str(module_path / f"{seed}.png")
        store.add([ImageRegions(file, None, 64, 80, boxes, scores, embeddings)])
    return predictor, RegionSearch(store, embedder)


def test_the_answers_are_those_of_the_search(served_index):
    predictor, search = served_index

    async def talk(client):
        model = (await client.get("/v1/model")).json()
        assert "search" in model["tasks"]
        assert (await client.get("/search.html")).status_code == 200
        for asked in ({"text": "cat", "top": 4}, {"text": TEXT}, {"text": TEXT, "rerank": 0}):
            answer = await client.post("/v1/search", json=asked)
            expected = search.text(asked["text"], asked.get("top", 10), asked.get("rerank"))
            assert answer.json() == {"regions": [match._asdict() for match in expected]}
        asked = {"region": expected[0].region}
        first = await client.post("/v1/region", json=asked)
        other = await client.post("/v1/region", json={**asked, "box": [0, 0, 20, 20]})
        assert first.headers["content-type"] == "image/jpeg" and first.content != other.content
        assert Image.open(io.BytesIO(first.content)).size == (240, 240)

    asking(predictor, talk, search=search)


def test_regions_like_a_box(served_index):
    predictor, search = served_index
    box = [4, 6, 40, 44]

    async def talk(client):
        form = {"image": ("a.png", png(0), "image/png")}
        answer = await client.post(
            "/v1/search/example", files=form, data={"box": "4,6,40,44", "top": "3"}
        )
        found = answer.json()
        expected = search.example(pixels(0), box, 3)
        assert [r["region"] for r in found["regions"]] == [match.region for match in expected]
        assert len(expected) == 3 and found["width"] == 80
        scores = [match.score for match in expected]
        assert [r["score"] for r in found["regions"]] == pytest.approx(scores, abs=1e-6)
        asked = {"image_id": found["image_id"], "box": box, "top": 3}
        again = await client.post("/v1/search/example", json=asked)
        assert again.json() == found
        for wrong, told in (
            ({"box": [4, 6, 40, 440]}, "inside the image of 80x64"),
            ({"box": [4, 6, 40]}, "box: "),
            ({"box": "a,b,c,d"}, "box.0: "),
            ({"box": box, "text": "cat"}, "text: "),
        ):
            answer = await client.post("/v1/search/example", json={**asked, **wrong})
            assert answer.status_code == 422 and told in answer.json()["error"]

    asking(predictor, talk, search=search)


def test_what_is_refused_is_one_line(served_index):
    predictor, search = served_index

    async def talk(client):
        async def refused(path, **body):
            answer = await client.post(path, json=body)
            return answer.status_code, answer.json()["error"]

        assert await refused("/v1/search", text=" ") == (
            422,
            'the text is empty: give what to look for, as "a red star"',
        )
        status, error = await refused("/v1/search", text="cat " * 2000)
        assert status == 422 and "characters are too many" in error
        for body in ({"text": "cat", "top": 1000}, {"text": "cat", "file": "/etc/passwd"}):
            assert (await refused("/v1/search", **body))[0] == 422
        assert await refused("/v1/region", region=10**9) == (
            404,
            "the region is not in the index any more: search again",
        )

    asking(predictor, talk, search=search)


def test_a_server_without_an_index_has_no_search(served_index):
    async def talk(client):
        assert "search" not in (await client.get("/v1/model")).json()["tasks"]
        assert (await client.get("/search.html")).status_code == 404
        answer = await client.post("/v1/search", json={"text": "cat"})
        assert answer.status_code == 422 and "started without --index" in answer.json()["error"]

    asking(served_index[0], talk)


def test_images_of_addresses_are_not_served(served_index, tmp_path):
    predictor, search = served_index
    store = RegionStore.for_writing(tmp_path, "f", 64, {"prompt": "cat, dog", "weights": "w"})
    nothing = np.zeros((0, 4)), None, np.zeros((0, 64))
    store.add([ImageRegions("https://example.org/a.jpg", None, 9, 9, *nothing)])
    with pytest.raises(UsageError, match="has images of addresses, as https://example.org/a.jpg"):
        serve._search_of(str(tmp_path), predictor)
    own = serve._search_of(str(search.store.folder), predictor)
    assert own.nearest("cat", 3) == search.nearest("cat", 3)
