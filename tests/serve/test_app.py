"""The REST interface: everybody gets their own answer, and each error is one line."""

import asyncio
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from glipv2_d2.serve import addresses
from glipv2_d2.serve.limits import Limits
from glipv2_d2.serve.page import PAGE
from tests.support.served import asking, bomb, pixels, png
from tests.support.tiny import tiny_model

NAMES = ["cat", "dog", "red kite"]
JSON = {"Content-Type": "application/json"}


def same(records, instances):
    """Rounded, and of a batch: not bit by bit."""
    assert [r["phrase"] for r in records] == list(instances.pred_phrases)
    assert [r["class_id"] for r in records] == instances.pred_classes.tolist()
    scores, boxes = [r["score"] for r in records], [r["box"] for r in records]
    np.testing.assert_allclose(scores, instances.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        np.reshape(boxes, (-1, 4)), instances.pred_boxes.tensor, rtol=0, atol=0.02
    )
    for record, mask in zip(records, instances.pred_masks.numpy()):
        assert record["mask"]["size"] == list(mask.shape)
        assert (coco_mask.decode(record["mask"]) != mask).mean() < 1e-3


async def post(client, path, **options):
    answer = await client.post(path, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_image_is_encoded_once_and_asked_in_every_way(serving_predictor):
    predictor, calls = serving_predictor, []

    async def talk(client):
        known = await post(
            client, "/v1/images", content=png(1), headers={"Content-Type": "image/png"}
        )
        asked = {"image_id": known["image_id"]}
        found = await post(client, "/v1/detect", json={**asked, "prompt": NAMES})
        best = await post(
            client, "/v1/detect",
            json={**asked, "prompt": "a [dog] and a cat", "threshold": 0.5, "masks": False},
        )  # fmt: skip
        answer = await post(client, "/v1/answer", json={**asked, "question": "is the dog red?"})
        caption = await post(client, "/v1/caption", json=asked)
        again = await post(client, "/v1/images", json=asked)
        assert again == known
        return known, found, best, answer, caption

    hook = predictor.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    known, found, best, answer, caption = asking(predictor, talk)
    hook.remove()
    assert len(calls) == 1 and (known["height"], known["width"]) == (64, 80)
    image = predictor.set_image(pixels(1))
    same(found["detections"], image.predict(NAMES))
    expected = image.predict("a [dog] and a cat", score_threshold=0.5, masks=False)
    assert len(best["detections"]) == len(expected) and "mask" not in str(best)
    expected = image.answer("is the dog red?")
    assert answer["answer"] == expected.answer and len(answer["answers"]) == 5
    same(answer["detections"], expected.instances)
    assert [(w["text"], w["class_id"]) for w in answer["words"]] == expected.words
    expected = image.caption()
    assert caption["caption"] == expected.caption
    assert "".join(word["text"] for word in caption["words"]) == expected.caption.rstrip()


def test_an_upload_and_a_question_in_one_call(serving_predictor):
    async def talk(client):
        form = {"files": {"image": ("a.png", png(2))}}
        found = await post(
            client, "/v1/detect",
            data={"prompt": "cat, dog", "threshold": "0.6", "masks": "false"}, **form,
        )  # fmt: skip
        named = {"prompt": ["cat", "dog"], "threshold": "0.6", "masks": "false"}
        by_name = await post(client, "/v1/detect", data=named, **form)
        assert by_name["detections"] == found["detections"]
        twice = {"prompt": "cat", "threshold": ["0.6", "0.7"]}
        refused = await client.post("/v1/detect", data=twice, **form)
        assert refused.status_code == 422 and "threshold: " in refused.json()["error"]
        alone = await post(
            client, "/v1/caption", content=png(2), headers={"Content-Type": "image/png"}
        )
        again = {"image_id": found["image_id"], "prompt": "cat, dog"}
        return found, alone, await post(client, "/v1/detect", json=again)

    found, alone, again = asking(serving_predictor, talk)
    expected = serving_predictor(pixels(2), ["cat", "dog"], score_threshold=0.6)[0]
    assert len(found["detections"]) == len(expected) < len(again["detections"])
    assert alone["caption"] == serving_predictor.caption(pixels(2))[0].caption


def test_negatives_and_the_size_of_the_beam(serving_predictor):
    async def talk(client):
        image = await post(
            client, "/v1/images", content=png(1), headers={"Content-Type": "image/png"}
        )
        asked = {"image_id": image["image_id"]}
        found = await post(
            client, "/v1/detect", json={**asked, "prompt": NAMES[:1], "negatives": NAMES[1:]}
        )
        written = [
            await post(client, "/v1/caption", json={**asked, "beam_size": size}) for size in (1, 3)
        ]
        return found, written

    found, written = asking(serving_predictor, talk)
    image = serving_predictor.set_image(pixels(1))
    expected = image.predict(NAMES[:1], negatives=NAMES[1:])
    same(found["detections"], expected)
    assert len(expected) < len(image.predict(NAMES[:1]))
    head = serving_predictor.model.caption_head
    for size, caption in zip((1, 3), written):
        alone = image.caption(decoding=replace(head.decoding, beam_size=size))
        assert caption["caption"] == alone.caption
        assert caption["caption_score"] == round(alone.score, 4)
    assert written[0]["caption_score"] != written[1]["caption_score"]


def test_of_many_at_once_each_gets_its_own_answer(serving_predictor):
    """Images of two sizes, detections, questions and captions, in batches of four."""
    sizes = {seed: (64, 80) if seed % 2 else (80, 64) for seed in range(3, 7)}
    prompts = {seed: NAMES[seed % 3 :] + [f"thing {seed}"] for seed in sizes}

    async def one(client, kind, seed):
        asked = {"prompt": ", ".join(prompts[seed])} if kind == "detect" else {}
        if kind == "answer":
            asked = {"question": f"where is thing {seed}?"}
        form = {"image": ("a.png", png(seed, *sizes[seed]))}
        return await post(client, f"/v1/{kind}", data=asked, files=form)

    # A batch holds different images of one size.
    asked = [(kind, seed) for kind in ("detect", "answer", "caption") for seed in sizes]

    async def talk(client):
        return await asyncio.gather(*(one(client, kind, seed) for kind, seed in asked))

    answers = asking(serving_predictor, talk)
    assert len({answer["image_id"] for answer in answers}) == len(asked)
    images = {s: serving_predictor.set_image(pixels(s, *size)) for s, size in sizes.items()}
    expected = {}
    for kind, seed in set(asked):
        image = images[seed]
        expected[kind, seed] = (
            image.predict(prompts[seed]) if kind == "detect"
            else image.answer(f"where is thing {seed}?") if kind == "answer"
            else image.caption()
        )  # fmt: skip
    for key, answer in zip(asked, answers):
        kind, alone = key[0], expected[key]
        assert (answer["height"], answer["width"]) == sizes[key[1]]
        if kind != "detect":
            assert answer[kind] == getattr(alone, kind)
        same(answer["detections"], alone if kind == "detect" else alone.instances)


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "label-studio"])
def test_labels_to_take_away(format, serving_predictor):
    async def talk(client):
        found = await post(
            client, "/v1/detect", data={"prompt": "cat, dog"}, files={"image": ("a", png(1))}
        )
        del found["image_id"]
        found["detections"] = found["detections"][:3]
        answer = await client.post("/v1/labels", json={**found, "format": format, "file": "a.png"})
        return found, answer

    found, answer = asking(serving_predictor, talk)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{format}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as files:
        texts = {name: files.read(name).decode() for name in files.namelist()}
    assert texts and all(r["phrase"] in "".join(texts.values()) for r in found["detections"])
    if format == "coco":
        (content,) = map(json.loads, texts.values())
        boxes = [a["bbox"][:2] for a in content["annotations"]]
        np.testing.assert_allclose(boxes, [r["box"][:2] for r in found["detections"]], atol=0.01)
        assert content["annotations"][0]["segmentation"] == found["detections"][0]["mask"]


UPLOAD = {"files": {"image": ("a.png", png(1))}}
ERRORS = {
    "a text file": (
        "detect", {"data": {"prompt": "cat"}, "files": {"image": ("a.jpg", b"hello")}},
        422, "'the upload' is not an image of a known format",
    ),
    "a bomb": (
        "detect", {"data": {"prompt": "cat"}, "files": {"image": bomb(20_000, 15_000)}},
        413, "at most 1 megapixels are allowed",
    ),
    "a large file": (
        "images", {"content": bytes(200_001), "headers": {"Content-Type": "image/png"}},
        413, "larger than 200,000 bytes",
    ),
    "a long prompt": (
        "detect", {"data": {"prompt": "x" * 100_000}, **UPLOAD},
        422, "prompt: 100,000 characters are too many, at most 4,000 are allowed",
    ),
    "many names": (
        "detect", {"json": {"prompt": ["kite"] * 1001, "image_id": "x"}},
        422, "prompt: 4,004 characters are too many",
    ),
    "no prompt": ("detect", UPLOAD, 422, "prompt: Field required"),
    "an empty prompt": ("detect", {"data": {"prompt": " "}, **UPLOAD}, 422, "prompt is empty"),
    "a prompt of numbers": (
        "detect", {"json": {"prompt": [1, 2], "image_id": "x"}}, 422, "valid string",
    ),
    "a threshold of 7": (
        "detect", {"json": {"prompt": "cat", "image_id": "x", "threshold": 7}},
        422, "threshold: Input should be less than or equal to 1",
    ),
    "an unknown field": (
        "detect", {"json": {"prompt": "cat", "path": "/etc/passwd"}}, 422, "path: Extra inputs",
    ),
    "no json": ("answer", {"content": b"{", "headers": JSON}, 422, "Invalid JSON"),
    "another type": (
        "detect", {"content": b"prompt=cat", "headers": {"Content-Type": "text/plain"}},
        415, "or that of an image, not 'text/plain'",
    ),
    "a form without a file": (
        "detect", {"data": {"prompt": "cat", "image": "/etc/passwd"}, "files": {"x": b"y"}},
        422, "image: the form has no file of this name",
    ),
    "no image": ("detect", {"json": {"prompt": "cat"}}, 422, "give one image"),
    "two images": ("caption", {"data": {"image_id": "x"}, **UPLOAD}, 422, "give one image"),
    "an image that is not kept": (
        "caption", {"json": {"image_id": "x"}}, 404, "not kept any more: upload it again",
    ),
    "an address": (
        "images", {"json": {"url": "http://127.0.0.1/"}}, 422, "started without --allow-urls",
    ),
    "an unknown format": (
        "labels",
        {"json": {"format": "no", "file": "a", "height": 1, "width": 1, "detections": []}},
        422, "there is no format 'no': take one of coco, ",
    ),
}  # fmt: skip


def test_each_error_is_one_line_and_the_server_lives_on(serving_predictor):
    limits = Limits(upload=200_000, pixels=1_000_000)

    async def talk(client):
        answers = {}
        for what, (path, options, *_) in ERRORS.items():
            answers[what] = await client.post(f"/v1/{path}", **options)
        assert await post(client, "/v1/caption", **UPLOAD)
        return answers

    answers = asking(serving_predictor, talk, limits)
    for what, (_, _, status, message) in ERRORS.items():
        assert answers[what].status_code == status, (what, answers[what].text)
        (error,) = answers[what].json().values()
        assert message in error and "\n" not in error and len(error) < 400, what


def test_a_model_without_a_head_says_so():
    from glipv2_d2.engine.predictor import GroundingPredictor

    predictor = GroundingPredictor(tiny_model(), min_size=64, max_size=96)

    async def talk(client):
        model = (await client.get("/v1/model")).json()
        return model, await client.post("/v1/answer", data={"question": "what?"}, **UPLOAD)

    model, answer = asking(predictor, talk)
    assert model["tasks"] == ["detect"]
    assert answer.status_code == 422 and "model.vqa_head" in answer.json()["error"]


def test_a_bug_tells_nothing_and_ends_nothing(serving_predictor, monkeypatch):
    async def talk(client):
        monkeypatch.setattr(client.service, "caption", lambda *_: {}["secret"])
        bug = await client.post("/v1/caption", **UPLOAD)
        return bug, (await client.get("/health")).json()

    bug, health = asking(serving_predictor, talk)
    assert bug.status_code == 500 and "secret" not in bug.text and "Traceback" not in bug.text
    assert health == {"status": "ok", "waiting": 0, "images": 1}


def test_an_image_at_an_address(serving_predictor, monkeypatch):
    monkeypatch.setattr(addresses, "fetch", lambda url, _: png(1) if url == "https://a/b" else b"")

    async def talk(client):
        good = await client.post("/v1/images", json={"url": "https://a/b"})
        return good, await client.post("/v1/images", json={"url": "https://a/c"})

    good, bad = asking(serving_predictor, talk, urls=True)
    assert good.json()["width"] == 80 and bad.status_code == 422


def test_nothing_of_the_disk_is_served(serving_predictor):
    outside = [
        "/setup.py", "/static/", "/static/app.js", "/../app.py", "/..%2fapp.py",
        "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/docs", "/v1/images/x",
    ]  # fmt: skip

    async def talk(client):
        for path in PAGE:
            there = not path.startswith("/search.")  # of a server with an index
            assert (await client.get(path)).status_code == (200 if there else 404)
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        statuses = [(await client.get(path, follow_redirects=True)).status_code for path in outside]
        return statuses, (await client.get("/openapi.json")).json()

    statuses, interface = asking(serving_predictor, talk)
    assert set(statuses) == {404}
    assert set(interface["paths"]) == {
        "/health", "/v1/model", "/v1/images", "/v1/detect", "/v1/answer", "/v1/caption",
        "/v1/labels", "/v1/search", "/v1/search/example", "/v1/region",
    }  # fmt: skip
    body = interface["paths"]["/v1/detect"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    assert body["multipart/form-data"]["schema"]["required"] == ["image", "prompt"]


def test_the_page_loads_nothing_from_elsewhere():
    for path, file in PAGE.items():
        if not path.endswith(".jpg"):
            text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text and "eval(" not in text and "style=" not in text, path
