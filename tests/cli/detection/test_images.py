"""One image's trouble is its own, and what is found is kept."""

import json
import shutil

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import HTTPURLHandler
from PIL import Image

from glip_commands.main import main
from glipv2_d2.cli import detect
from glipv2_d2.cli.detection import command as command_line
from glipv2_d2.cli.detection import images as detect_images
from glipv2_d2.errors import PromptError
from glipv2_d2.images import read_image, readable_suffixes
from glipv2_d2.language.phrase_list import PhraseList

COLORS = [(200, 0, 0), (0, 150, 0), (0, 0, 220), (90, 90, 90)]


class Predictor:
    """One box for each image, with the mean of its blue channel as the score; `refuse` raises."""

    merge_iou = None

    def __init__(self, batch_size=1, refuse=lambda pixels: None, phrase="cat"):
        self.batch_size, self.refuse, self.phrase = batch_size, refuse, phrase
        self.score_threshold = 0.25
        self.asked = 0

    def __call__(self, images, prompt, negatives=(), tile=None):
        for pixels in images:
            self.refuse(pixels)
        self.asked += len(images)
        return [self.found(pixels) for pixels in images]

    def found(self, pixels):
        found = Instances(pixels.shape[:2])
        found.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 30.0, 20.0]]))
        found.scores = torch.tensor([pixels[..., 0].mean() / 255])
        found.pred_classes = torch.tensor([0])
        found.pred_phrases = PhraseList([self.phrase])
        return found


@pytest.fixture
def colored_images(tmp_path):
    """Four images; their scores are 0, 0, 0.86 and 0.35."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, color in zip("abcd", COLORS):
        Image.new("RGB", (60, 40), color).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def command(colored_images, tmp_path, monkeypatch):
    """`glip detect` with a predictor of one's own: status = command(predictor, *arguments)."""
    output = tmp_path / "out"
    (tmp_path / "w.pth").write_bytes(b"weights")

    def run(predictor, *more, prompt="cat", source=colored_images):
        monkeypatch.setattr(detect, "_predictor", lambda args, overrides: predictor)
        fixed = ["--config-file", "demo/scenes.py", "--weights", str(tmp_path / "w.pth")]
        fixed += ["--prompt", prompt, "--output", str(output)]
        return main(["detect", str(source), *fixed, *more])

    return run


def report(tmp_path):
    return json.loads((tmp_path / "out" / "detections.json").read_text())


def stop_at(monkeypatch, number, stop=KeyboardInterrupt):
    """The process dies when it reads the image of this number; returns the files that are read."""
    read = []

    def reader(path):
        read.append(path)
        if len(read) == number:
            raise stop
        return read_image(path)

    monkeypatch.setattr(detect_images, "read_image", reader)
    return read


def test_a_killed_run_keeps_its_results_and_the_next_goes_on(
    command, colored_images, tmp_path, monkeypatch, capsys
):
    assert command(Predictor()) == 0
    whole = report(tmp_path)
    assert [round(d["score"], 2) for d in whole["detections"]] == [0, 0, 0.86, 0.35]
    journal = tmp_path / "out" / "detections.jsonl"
    assert not journal.exists()
    (tmp_path / "out" / "detections.json").unlink()

    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert command(Predictor()) == 130
    assert "the same command goes on" in capsys.readouterr().err
    _, *lines = map(json.loads, journal.read_text().splitlines())
    assert [line["detections"][0]["file"][-5:] for line in lines] == ["a.png", "b.png"]
    with open(journal, "a") as file:
        file.write(
            '{"file": "' + str(colored_images / "c.png") + '", "ima'
        )  # written when it was killed

    capsys.readouterr()
    with monkeypatch.context() as patch:
        read = stop_at(patch, 0)
        predictor = Predictor()
        assert command(predictor) == 0
    assert [path[-5:] for path in read] == ["c.png", "d.png"] and predictor.asked == 2
    assert "2 of 4 images are done already" in capsys.readouterr().out
    assert report(tmp_path) == whole and not journal.exists()


@pytest.mark.parametrize(
    "change, again, said",
    [
        (lambda images, out, predictor: None, ["c.png", "d.png"], "2 of 4 images are done"),
        (lambda images, out, predictor: (out / "a.jpg").unlink(), ["a.png", "c.png", "d.png"], "1"),
        (
            lambda images, out, predictor: Image.new("RGB", (9, 9)).save(images / "b.png"),
            ["b.png", "c.png", "d.png"],
            "1 of 4 images are done",
        ),
        (
            lambda images, out, predictor: setattr(predictor, "score_threshold", 0.9),
            ["a.png", "b.png", "c.png", "d.png"],
            "a run with another threshold: every image is done anew",
        ),
        (
            lambda images, out, predictor: (out.parent / "w.pth").write_bytes(b"other weights"),
            ["a.png", "b.png", "c.png", "d.png"],
            "a run with another weights",
        ),
    ],
)
def test_what_is_done_is_of_this_image_and_these_settings(
    command, colored_images, tmp_path, monkeypatch, capsys, change, again, said
):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_at(patch, 3, SystemExit)
        command(Predictor())
    predictor = Predictor()
    change(colored_images, tmp_path / "out", predictor)
    read = stop_at(monkeypatch, 0)
    capsys.readouterr()
    assert command(predictor) == 0
    assert [path[-5:] for path in read] == again
    assert said in capsys.readouterr().out
    assert [d["file"][-5:] for d in report(tmp_path)["detections"]] == [
        "a.png", "b.png", "c.png", "d.png",
    ]  # fmt: skip


def test_another_prompt_asks_every_image_again(command, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_at(patch, 3, SystemExit)
        command(Predictor())
    assert command(Predictor(phrase="dog"), prompt="dog") == 0
    assert {d["phrase"] for d in report(tmp_path)["detections"]} == {"dog"}
    assert "another prompt" in capsys.readouterr().out


def test_a_run_on_other_images_leaves_what_is_done_alone(
    command, colored_images, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert command(Predictor()) == 130
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (60, 40), (0, 0, 220)).save(other / "a.png")
    assert command(Predictor(), source=other) == 0
    (image,) = report(tmp_path)["images"]
    assert image["picture"] == "a_2.jpg"
    predictor = Predictor()
    assert command(predictor) == 0 and predictor.asked == 2
    assert [i["picture"] for i in report(tmp_path)["images"]] == [f"{n}.jpg" for n in "abcd"]


def test_images_that_failed_are_tried_again(command, colored_images, tmp_path, capsys):
    Image.new("RGB", (60, 40)).save(colored_images / "e.png")
    (colored_images / "b.png").write_bytes(b"nothing")
    assert command(Predictor()) == 1
    assert (tmp_path / "out" / "detections.jsonl").exists()
    assert "the same command tries them again" in capsys.readouterr().err
    Image.new("RGB", (60, 40)).save(colored_images / "b.png")
    predictor = Predictor()
    assert command(predictor) == 0 and predictor.asked == 1
    assert len(report(tmp_path)["images"]) == 5 and report(tmp_path)["failed"] == []
    assert not (tmp_path / "out" / "detections.jsonl").exists()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("error", [MemoryError(), ValueError("height and width must be > 0")])
def test_what_fails_in_the_model_is_one_image(command, colored_images, tmp_path, batch_size, error):
    Image.new("RGB", (3000, 1)).save(colored_images / "bb.png")

    def refuse(pixels):
        if pixels.shape[0] == 1:
            raise error

    assert command(Predictor(batch_size, refuse)) == 1
    (failed,) = report(tmp_path)["failed"]
    assert failed["file"] == str(colored_images / "bb.png")
    assert type(error).__name__ in failed["error"] and "3000x1 pixels" in failed["error"]
    assert [i["file"][-5:] for i in report(tmp_path)["images"]] == [
        "a.png", "b.png", "c.png", "d.png",
    ]  # fmt: skip


def test_a_prompt_that_cannot_be_used_is_no_fault_of_an_image(command, tmp_path, capsys):
    def refuse(pixels):
        raise PromptError("too long")

    assert command(Predictor(refuse=refuse)) == 2
    assert "error: too long" in capsys.readouterr().err
    assert not (tmp_path / "out" / "detections.json").exists()


def test_a_picture_that_cannot_be_written_keeps_its_detections(command, colored_images, tmp_path):
    (tmp_path / "out" / "b.jpg").mkdir(parents=True)
    assert command(Predictor()) == 1
    (failed,) = report(tmp_path)["failed"]
    assert "b.png" in failed["file"] and "its picture cannot be written" in failed["error"]
    assert [image["picture"] for image in report(tmp_path)["images"]] == [
        "a.jpg", None, "c.jpg", "d.jpg",
    ]  # fmt: skip
    assert len(report(tmp_path)["detections"]) == 4
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith("tmp")]


def test_a_picture_wider_than_jpeg_allows_is_smaller(command, colored_images, tmp_path):
    Image.new("L", (66000, 8)).save(colored_images / "wide.png")
    assert command(Predictor(), source=colored_images / "wide.png") == 0
    with Image.open(tmp_path / "out" / "wide.jpg") as picture:
        assert picture.size == (65500, 7)
    (image,) = report(tmp_path)["images"]
    assert (image["width"], image["height"]) == (66000, 8)


FORMATS = ["gif", "jfif", "avif", "jp2", "pgm", "tga", "webp", "tiff", "bmp", "mpo", "JPG"]


def written(suffix):
    """Whether this Pillow writes the format: an older one has no AVIF."""
    return Image.registered_extensions().get("." + suffix.lower()) in Image.SAVE


def test_every_format_of_the_reader_is_taken_from_a_folder(command, tmp_path, capsys):
    folder = tmp_path / "formats"
    (folder / ".git").mkdir(parents=True)
    picture = Image.new("RGB", (60, 40), (0, 0, 220))
    formats = [suffix for suffix in FORMATS if written(suffix)]
    assert {"gif", "jfif", "pgm", "tga", "mpo", "JPG"} <= set(formats)
    for suffix in formats:
        mode = "L" if suffix == "pgm" else "RGB"
        picture.convert(mode).save(folder / f"{suffix.lower()}.{suffix}")
    others = ["film.mpg", "notes.txt", "table.h5", "page.pdf", "Makefile"]
    for name in others:
        (folder / name).write_text("no image")
    assert command(Predictor(), source=folder) == 0
    found = [image["file"].rsplit("/", 1)[1] for image in report(tmp_path)["images"]]
    assert sorted(found) == sorted(f"{suffix.lower()}.{suffix}" for suffix in formats)
    skipped = [str(folder / name) for name in others] + [str(folder / ".git") + "/"]
    assert sorted(report(tmp_path)["skipped"]) == sorted(skipped)
    said = capsys.readouterr().err
    assert "6 skipped" in said and all(name in said for name in skipped)
    assert ".mpg" not in readable_suffixes() and ".png" in readable_suffixes()


def test_addresses(command, address, colored_images, tmp_path, monkeypatch):
    # Every handler keeps what it has fetched, by address.
    monkeypatch.setitem(PathManager._path_handlers, "http://", HTTPURLHandler())
    shutil.copy(colored_images / "c.png", tmp_path / "web")
    addresses = [f"{address}/c.png?size=large&x=a.b", f"{address}/none.png"]
    assert command(Predictor(), *addresses, source=colored_images / "a.png") == 1
    (first, second) = report(tmp_path)["images"]
    assert second == {
        "file": addresses[0], "height": 40, "width": 60, "picture": "c.jpg", "detections": 1,
    }  # fmt: skip
    (failed,) = report(tmp_path)["failed"]
    assert failed["file"] == addresses[1] and "404" in failed["error"]


def test_file_names_that_are_no_text_are_no_end(command, colored_images, tmp_path, capsys):
    name = "caf\udce9 \N{CAT FACE}.png"  # a Latin-1 byte
    (colored_images / "a.png").rename(colored_images / name)
    (colored_images / "b.png").write_bytes(b"")
    (colored_images / "b.png").rename(colored_images / "\udcff.png")
    assert command(Predictor()) == 1
    assert str(colored_images / name) in [image["file"] for image in report(tmp_path)["images"]]
    assert "\\udcff.png" in capsys.readouterr().err


def test_a_prompt_in_a_locale_that_is_not_utf_8(monkeypatch):
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    typed = "红心, cat".encode().decode("ascii", "surrogateescape")
    assert command_line.typed(typed) == "红心, cat"
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("latin-1"))
    assert command_line.typed("红心".encode().decode("latin-1")) == "红心"
    assert command_line.typed("café") == "café"  # a terminal that really is Latin-1
