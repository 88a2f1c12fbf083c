"""`glip detect`, from parsing the prompt to the JSON."""

import json
import re
import sys
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from PIL import Image

from glip_commands.main import main
from glipv2_d2.checkpoint import (
    load_weights,
    release_state,
    save_prompt,
    save_safetensors,
)
from glipv2_d2.cli.detection.images import Found, process
from glipv2_d2.config import get_config
from glipv2_d2.language import Prompt
from glipv2_d2.language.phrase_list import PhraseList
from glipv2_d2.modeling.text.bert import BertLanguageBackbone
from tests.support.moving_scenes import moving_frames, write_plain_video

CONFIG = "tests/support/tiny_detect.py"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "a.jpg", "b.jpg"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (64, 80, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(weights, source, output, *options, prompt="cat, red kite"):
    arguments = ["detect", str(source), "--config-file", CONFIG, "--weights", str(weights)]
    return main([*arguments, "--prompt", prompt, "--output", str(output), *options])


def test_folder(tiny_weights, photos, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(tiny_weights, photos, output, "--batch-size", "2", "--threshold", "0.0") == 0
    report = json.loads((output / "detections.json").read_text())
    pictures = {entry["picture"] for entry in report["images"]}
    assert pictures == {"a_png.jpg", "a_jpg.jpg", "b.jpg"}
    assert all(cv2.imread(str(output / name)) is not None for name in pictures)
    assert report["failed"] == []
    assert len(report["detections"]) == sum(e["detections"] for e in report["images"]) > 0
    first = report["detections"][0]
    assert set(first) == {"file", "phrase", "class_id", "score", "box"}
    assert first["phrase"] == ["cat", "red kite"][first["class_id"]]
    assert "[2/3]" in capsys.readouterr().out


def test_a_picture_of_somebody_else_is_not_overwritten(tiny_weights, photos, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "b.jpg").write_bytes(b"mine")

    def pictures(prompt):
        assert run(tiny_weights, photos, output, prompt=prompt) == 0
        report = json.loads((output / "detections.json").read_text())
        return sorted(image["picture"] for image in report["images"])

    assert pictures("cat") == pictures("red kite") == ["a_jpg.jpg", "a_png.jpg", "b_2.jpg"]
    assert (output / "b.jpg").read_bytes() == b"mine" and len(list(output.iterdir())) == 5


def test_formats_of_other_programs(tiny_weights, photos, tmp_path, capsys):
    output = tmp_path / "out"
    options = ("--threshold", "0.0", "--format", "yolo,coco,yolo")
    assert run(tiny_weights, photos, output, *options) == 0
    assert f"yolo, coco; paths of images begin in {photos}" in capsys.readouterr().out
    report = json.loads((output / "detections.json").read_text())
    assert report["names"] == ["cat", "red kite"]
    content = json.loads((output / "coco" / "annotations.json").read_text())
    assert len(content["annotations"]) == len(report["detections"])
    labels = sorted(path.name for path in (output / "yolo" / "labels").iterdir())
    assert labels == ["a_jpg.txt", "a_png.txt", "b.txt"]
    # A second time, all is replaced; but not what somebody has corrected in the meantime.
    assert run(tiny_weights, photos / "b.jpg", output, *options) == 0
    assert [path.name for path in (output / "yolo" / "labels").iterdir()] == ["b.txt"]
    (output / "yolo" / "labels" / "b.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert run(tiny_weights, photos / "b.jpg", output, *options) == 2
    assert "b.txt' was changed after" in capsys.readouterr().err


def test_a_tuned_prompt(tiny_weights, photos, tmp_path, capsys):
    model = instantiate(get_config(CONFIG).model)
    load_weights(model, tiny_weights)
    prompt = replace(Prompt.from_classes(["cat", "red kite"]), embedding_id="pets/0")
    offsets = torch.zeros(model.tokenizer.num_tokens(prompt.caption), 32)
    model.prompt_embeddings.add("pets/0", offsets)
    file = save_prompt(model, tmp_path / "pets.prompt.safetensors", [prompt], name="pets")
    options = ("--threshold", "0.0")
    assert run(tiny_weights, photos / "b.jpg", tmp_path / "tuned", *options, prompt=str(file)) == 0
    assert run(tiny_weights, photos / "b.jpg", tmp_path / "plain", *options) == 0
    reports = [
        json.loads((tmp_path / n / "detections.json").read_text()) for n in ("tuned", "plain")
    ]
    assert reports[0]["kind"] == "tuned" and reports[0]["detections"] == reports[1]["detections"]
    assert run(tiny_weights, photos, tmp_path / "x", prompt="no.safetensors") == 2
    assert "error: there is no prompt file 'no.safetensors'" in capsys.readouterr().err


def test_unreadable_images_are_named_counted_and_do_not_stop_the_rest(
    tiny_weights, photos, tmp_path, capsys
):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (photos / "empty.png").write_bytes(b"")
    output = tmp_path / "out"
    assert run(tiny_weights, photos, output, "--batch-size", "2") == 1
    report = json.loads((output / "detections.json").read_text())
    assert {entry["file"].rsplit("/", 1)[-1] for entry in report["failed"]} == {
        "broken.jpg",
        "empty.png",
    }
    assert len(report["images"]) == 3
    error = capsys.readouterr().err
    assert "2 of 5 images failed" in error and "broken.jpg" in error


def test_one_image_with_a_caption(tiny_weights, photos, tmp_path):
    output = tmp_path / "out"
    prompt = "a [red kite] above a [dog]"
    assert run(tiny_weights, photos / "b.jpg", output, "--threshold", "0", prompt=prompt) == 0
    report = json.loads((output / "detections.json").read_text())
    assert report["kind"] == "grounding" and report["threshold"] == 0
    assert {d["phrase"] for d in report["detections"]} <= {"red kite", "dog"}


def test_several_words_of_a_class_and_negatives(tiny_weights, photos, tmp_path):
    options = ("--threshold", "0.0", "--negatives", "bus, shop window")
    for name, given in (("with", options), ("without", options[:2])):
        run(tiny_weights, photos / "b.jpg", tmp_path / name, *given, prompt="cat, kitten; red kite")
    found, more = (
        json.loads((tmp_path / name / "detections.json").read_text())
        for name in ("with", "without")
    )
    assert found["negatives"] == "bus, shop window" and more["negatives"] == ""
    assert {d["phrase"] for d in more["detections"]} == {"cat", "red kite"}  # no "kitten"
    assert {d["phrase"] for d in found["detections"]} <= {"cat", "red kite"}
    assert 0 < len(found["detections"]) < len(more["detections"])


def test_exemplars(photos, tmp_path):
    config = "tests/support/tiny_probe.py"  # with the contrast
    torch.manual_seed(0)
    model = instantiate(get_config(config).model)
    weights = save_safetensors(release_state(model, torch.float32), tmp_path / "w.safetensors", {})
    box, other = f"{photos / 'a.png'}:10,12,50,44=bolt", f"{photos / 'a.jpg'}:0,0,40,30=bolt"
    options = ["--exemplar", box, "--exemplar", other, "--exemplar-words", "cat, dog, red kite"]
    options += ["--config-file", config, "--threshold", "0.0"]
    output = tmp_path / "out"
    arguments = (weights, photos / "b.jpg", output, "model.postprocessor.score_threshold=0.0")
    assert run(*arguments, *options, prompt="cat") == 0
    report = json.loads((output / "detections.json").read_text())
    assert report["exemplars"] == [box, other] and report["kind"] == "classes"
    found = {(d["class_id"], d["phrase"]) for d in report["detections"]}
    assert found == {(0, "cat"), (1, "bolt")}
    assert run(*arguments, *options, prompt="") == 0  # alone
    report = json.loads((output / "detections.json").read_text())
    assert {d["phrase"] for d in report["detections"]} == {"bolt"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"source": "nowhere"}, "no image or folder 'nowhere'"),
        ({"source": "."}, "holds no image"),
        ({"prompt": " "}, "prompt is empty"),
        ({"options": ["--format", "coco,pdf"]}, "'pdf' is none of coco, coco-results, yolo, voc"),
        ({"prompt": "cat, a\x07b", "options": ["--format", "csv"]}, "character that label files"),
        ({"options": ["--threshold", "7"]}, r"threshold.*\[0, 1\]"),
        ({"options": ["--threshold", "35"]}, r"threshold.*\[0, 1\].*got 35"),
        ({"options": ["--threshold", "nan"]}, r"threshold.*\[0, 1\].*got nan"),
        ({"options": ["--merge-iou", "nan"]}, r"merge_iou.*\[0, 1\].*got nan"),
        ({"options": ["--merge-iou", "0"]}, r"merge_iou.*\(0, 1\].*got 0"),
        ({"options": ["--batch-size", "0"]}, "batch_size"),
        ({"prompt": "\udcff\udcfe"}, "UTF-8"),
        ({"options": ["--exemplar", "b.jpg:1,2,3=star"]}, "an exemplar is FILE:x1,y1,x2,y2=NAME"),
        ({"options": ["--exemplar", "no.jpg:1,2,3,4"]}, "no image file 'no.jpg' for the exemplar"),
        (
            {"options": ["--exemplar", f"{__file__}:1,2,3,4"], "prompt": "a [cat]"},
            "with class names",
        ),
        ({"options": ["--exemplar", f"{__file__}:1,2,3,4"]}, "this model has none"),
        ({"options": ["--exemplar-words", "cat"]}, "--exemplar-words goes with --exemplar"),
        ({"prompt": __file__}, "--prompt is a text, and '.*' is a file"),
        ({"options": ["--negatives", __file__]}, "--negatives is a text, and '.*' is a file"),
        ({"options": ["--negatives", "fox, a cat"]}, "'a cat' is asked for"),
        ({"weights": "none.pth"}, "none.pth"),
        ({"options": ["--config-file", "none.py"]}, "none.py"),
        ({"output": "same"}, "could overwrite images there"),
    ],
)
def test_usage_errors(tiny_weights, photos, tmp_path, capsys, change, message):
    empty = tmp_path / "empty"
    empty.mkdir()
    source = {"nowhere": "nowhere", ".": empty}.get(change.get("source"), photos / "b.jpg")
    output = photos if change.get("output") else tmp_path / "out"
    status = run(
        change.get("weights", tiny_weights), source, output, *change.get("options", []),
        prompt=change.get("prompt", "cat, dog"),
    )  # fmt: skip
    assert status == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err), captured.err
    assert captured.err.count("\n") == 1 and not captured.out


def test_overrides_of_the_config_may_come_last(tiny_weights, photos, tmp_path):
    output = tmp_path / "out"
    assert run(tiny_weights, photos / "b.jpg", output, "inference.score_threshold=0.9") == 0
    assert json.loads((output / "detections.json").read_text())["threshold"] == 0.9


def test_several_images_and_a_value_for_the_config(tiny_weights, photos, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    (other / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    output = tmp_path / "out"
    more = (str(other), str(photos / "b.jpg"), "model.postprocessor.detections_per_prompt=3")
    assert run(tiny_weights, photos / "a.jpg", output, *more) == 0
    report = json.loads((output / "detections.json").read_text())
    files = [str(photos / "a.jpg"), str(other / "a.jpg"), str(photos / "b.jpg")]
    assert [entry["file"] for entry in report["images"]] == files
    pictures = [entry["picture"] for entry in report["images"]]
    assert len(set(pictures)) == 3 and all((output / name).is_file() for name in pictures)
    # The second and third are the same image.
    assert report["images"][1]["detections"] == report["images"][2]["detections"]


def test_no_image_at_all(tiny_weights, tmp_path, capsys):
    assert run(tiny_weights, "model.chunk_size=2", tmp_path / "out") == 2
    assert "no image is given" in capsys.readouterr().err


def test_an_output_that_is_a_file(tiny_weights, photos, capsys):
    assert run(tiny_weights, photos / "a.jpg", photos / "b.jpg") == 2
    assert "--output is a folder, and" in capsys.readouterr().err


def test_masks_are_drawn_and_written(tmp_path, photos):
    def ask(images):
        found = Instances((64, 80))
        found.pred_boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 40.0]]))
        found.scores = torch.tensor([0.9])
        found.pred_classes = torch.tensor([0])
        found.pred_phrases = PhraseList(["cat"])
        found.pred_masks = torch.zeros(1, 64, 80, dtype=torch.bool)
        found.pred_masks[0, 10:40, 10:30] = True
        return [Found(found)] * len(images)

    photo = photos / "b.jpg"
    report = process(ask, [photo], tmp_path / "out", batch_size=1)
    (record,) = report["detections"]
    assert record["mask"]["size"] == [64, 80] and isinstance(record["mask"]["counts"], str)
    json.dumps(report)


def test_no_detection_is_a_picture_all_the_same(tiny_weights, photos, tmp_path):
    output = tmp_path / "out"
    assert run(tiny_weights, photos / "b.jpg", output, "--threshold", "1.0") == 0
    assert (output / "b.jpg").exists()
    assert json.loads((output / "detections.json").read_text())["detections"] == []


def test_a_video_beside_images_in_tiles(tiny_weights, photos, tmp_path, monkeypatch, capsys):
    clip = write_plain_video(tmp_path / "a.mp4", (pixels for pixels, _ in moving_frames(5, 96)))
    encoded = []
    forward = BertLanguageBackbone.forward
    monkeypatch.setattr(
        BertLanguageBackbone, "forward", lambda *a: encoded.append(len(a[1].mask)) or forward(*a)
    )
    output = tmp_path / "out"
    options = (clip, "--track", "--every", "2", "--tile", "64", "--threshold", "0.0")
    assert run(tiny_weights, photos / "a.png", output, *options, "--batch-size", "2") == 0
    assert encoded == [1]  # once, for all images and frames
    report = json.loads((output / "detections.json").read_text())
    assert [image["picture"] for image in report["images"]] == ["a.jpg"]
    (video,) = report["videos"]
    assert (video["picture"], video["frames"], video["every"]) == ("a.mp4", 3, 2)
    lines = [json.loads(line) for line in (output / video["lines"]).read_text().splitlines()[1:]]
    assert sum(len(line["detections"]) for line in lines) == video["detections"] > 0
    assert (output / "a.mp4").is_file() and "1 pictures, 1 videos" in capsys.readouterr().out


def test_options_of_videos_are_for_videos(tiny_weights, photos, tmp_path, capsys, monkeypatch):
    for option in (["--track"], ["--every", "2"]):
        assert run(tiny_weights, photos, tmp_path / "out", *option) == 2
        assert f"{option[0]} is for videos, none is given" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(tiny_weights, "camera:0", tmp_path / "out") == 2
    assert "'av' is not installed: pip install 'glipv2_d2[video]'" in capsys.readouterr().err


def test_the_most_pixels_are_an_option(tiny_weights, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setenv("GLIP_MAX_PIXELS", "4000")
    assert run(tiny_weights, photos / "a.png", tmp_path / "out") == 1
    assert "has 5120 pixels, more than 4000" in capsys.readouterr().err
    with warnings.catch_warnings():
        assert run(tiny_weights, photos / "a.png", tmp_path / "out", "--max-pixels", "5120") == 0
