"""What `glip detect`, `ask` and `caption` share, with a made-up model."""

import argparse
import json

import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from glipv2_d2.cli.detection.command import Given, Task, read_given, run_task, stoppable, typed
from glipv2_d2.cli.detection.images import Found, tell_field
from glipv2_d2.cli.detection.inputs import Inputs
from glipv2_d2.errors import UsageError

CONFIG = "tests/support/tiny_detect.py"


def arguments(output=None, given=()):
    output = None if output is None else str(output)
    return argparse.Namespace(
        given=given, output=output, config_file=CONFIG, weights="w.pth",
        max_pixels=None, every=1, track=False,
    )  # fmt: skip


@pytest.fixture
def pair_of_images(tmp_path):
    """One that can be read and one that cannot; the first has a name like a value's."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a=1.png")
    (folder / "broken.png").write_bytes(b"nothing")
    return [str(folder / name) for name in ("a=1.png", "broken.png")]


def task(**settings):
    """Finds nothing, and says the size of the image."""

    def ask(images):
        nothing = torch.zeros(0, 4)
        fields = {"pred_boxes": Boxes(nothing), "scores": nothing[:, 0], "pred_phrases": []}
        fields["pred_classes"] = nothing[:, 0].long()
        return [Found(Instances(x.shape[:2], **fields), {"size": x.shape[0]}) for x in images]

    return Task("sizes", ask, settings, {"asked": "size"}, 1, tell_field("size"))


def test_images_and_values_are_told_apart(pair_of_images, tmp_path):
    words = [pair_of_images[0], "model.chunk_size=2", "https://host/a.png?b=1"]
    inputs, overrides = read_given(arguments(given=words), "sizes")
    assert overrides == ["model.chunk_size=2"]
    assert inputs.files == [words[0], words[2]]
    with pytest.raises(UsageError, match="no image is given, only .*: a.b=1 c=2"):
        read_given(arguments(given=["a.b=1", "c=2"]), "sizes")
    with pytest.raises(UsageError, match="there is no image or folder 'none.png'"):
        read_given(arguments(given=["none.png"]), "sizes")


@pytest.mark.parametrize("content", ["[1, 2]", '{"images": []}', "no json", "\x00"])
def test_a_report_of_another_program_is_not_replaced(pair_of_images, tmp_path, content):
    asked, report = arguments(tmp_path / "out", pair_of_images), tmp_path / "out" / "sizes.json"
    report.parent.mkdir()
    report.write_text(content)
    asked.given = pair_of_images[1:]
    with pytest.raises(UsageError, match="sizes.json' is in the place of the report"):
        read_given(asked, "sizes")
    assert report.read_text() == content
    report.unlink()
    run_task(task(), read_given(asked, "sizes"), asked)  # its own is replaced
    run_task(task(), read_given(asked, "sizes"), asked)


def test_a_text_is_utf_8_whatever_the_locale_says():
    assert typed("caf\udcc3\udca9") == typed("café") == "café"
    with pytest.raises(UsageError, match=r"no text in UTF-8: caf\\udce9"):
        typed("caf\udce9")


def test_the_report_alone_is_on_the_standard_output(pair_of_images, capsys):
    given = Given(Inputs(pair_of_images, ["notes.txt"]), [])
    assert run_task(task(), given, arguments(), print_report=True) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert [image["size"] for image in report["images"]] == [30]
    assert (report["asked"], report["config"], report["weights"]) == ("size", CONFIG, "w.pth")
    assert report["skipped"] == ["notes.txt"]
    assert [entry["file"] for entry in report["failed"]] == pair_of_images[1:]
    assert f"1 of 2 images failed: {pair_of_images[1]}" in printed.err
    assert "1 skipped, no images by their names" in printed.err


def test_a_run_with_other_settings_begins_anew(pair_of_images, tmp_path, capsys):
    given, out = Given(Inputs(pair_of_images, []), []), arguments(tmp_path / "out")
    assert run_task(task(threshold=1), given, out) == 1
    assert run_task(task(threshold=1), given, out) == 1
    assert "1 of 2 images are done already" in capsys.readouterr().out
    assert run_task(task(threshold=2), given, out) == 1
    printed = capsys.readouterr()
    assert "of a run with another threshold: every image is done anew" in printed.out
    assert "(the same command tries them again)" in printed.err
    # Once all are done, nothing is kept but the report.
    Image.new("RGB", (40, 20)).save(pair_of_images[1])
    assert run_task(task(threshold=2), given, out) == 0
    report = json.loads((tmp_path / "out/sizes.json").read_text())
    assert [image["size"] for image in report["images"]] == [30, 20]
    assert not list((tmp_path / "out").glob("*.jsonl"))


@pytest.mark.parametrize(("output", "kept"), [(None, ""), ("out", "what is done is kept")])
def test_somebody_stops_it(capsys, output, kept):
    @stoppable
    def run(args):
        raise KeyboardInterrupt

    assert run(arguments(output)) == 130
    printed = capsys.readouterr().err
    assert printed.startswith("stopped") and kept in printed
    assert ("kept" in printed) is bool(kept)
