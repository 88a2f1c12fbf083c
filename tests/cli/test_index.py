"""`glip index` follows a collection, and goes on where it was stopped."""

import os
import re
import sys
import zipfile

import cv2
import numpy as np
import pytest

from glip_commands.main import main
from glipv2_d2.engine.contrast_embedder import ContrastEmbedder
from glipv2_d2.search.store import RegionStore

CONFIG = "tests/support/tiny_contrast.py"


def write(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "more/c=1.png", "\N{CAT FACE}.png")):
        write(folder / name, seed)
    return folder


@pytest.fixture
def index(contrast_weights, tmp_path):
    """Runs the command with the tiny model."""

    def run(*words, weights=contrast_weights):
        options = ["--config-file", CONFIG, "--weights", weights, "--output", tmp_path / "index"]
        return main(["index", *map(str, [*words, *options]), "--device", "cpu"])

    return run


@pytest.fixture
def embedded(monkeypatch):
    """How many images were embedded, call by call."""
    counts, embed = [], ContrastEmbedder.embed_regions

    def counted(self, images, boxes=None):
        counts.append(len(images))
        return embed(self, images, boxes)

    monkeypatch.setattr(ContrastEmbedder, "embed_regions", counted)
    return counts


def names_in(folder):
    with RegionStore(folder) as store:
        return {os.path.basename(name) for name in store.stamps()}


def test_it_follows_its_folders(index, collection, embedded, tmp_path, capsys):
    (collection / "notes.txt").write_text("none")
    archive = tmp_path / "rest.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(collection / "a.png", "z.png")
    assert index(collection, archive, "--batch-size", 2) == 0
    assert re.search(
        r"index: 5 images with 1420 regions; 5 new, 0 changed, 0 gone, 0 failed, 1 skipped",
        capsys.readouterr().out,
    )
    assert embedded == [2, 2, 1]
    assert index(collection) == 0 and "0 new, 0 changed, 0 gone" in capsys.readouterr().out
    (collection / "a.png").unlink()
    write(collection / "b.png", 10)
    write(collection / "d.png", 11)
    (collection / "broken.png").write_bytes(b"\x89PNG nothing")
    (collection / "more" / "c=1.png").write_bytes(b"")
    assert index(collection) == 1
    printed = capsys.readouterr()
    assert "4 images with" in printed.out and "1 new, 1 changed, 1 gone, 2 failed" in printed.out
    assert "broken.png' is not an image" in printed.err and "tries them again" in printed.err
    # That of the archive stays, which was not given; of an image that is no more nothing does.
    kept = {"b.png", "d.png", "\N{CAT FACE}.png", "rest.zip!z.png"}
    assert names_in(tmp_path / "index") == kept
    assert embedded[3:] == [2]


def test_it_goes_on_after_a_stop(index, collection, embedded, tmp_path, monkeypatch, capsys):
    add = RegionStore.add

    def stopped(self, images):
        add(self, images)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RegionStore, "add", stopped)
        assert index(collection, "--batch-size", 3) == 130
    assert "what is done is kept" in capsys.readouterr().err
    assert len(names_in(tmp_path / "index")) == 3
    assert index(collection) == 0 and embedded == [3, 1]


def test_a_batch_that_fails_is_tried_image_by_image(index, collection, capsys):
    cv2.imwrite(str(collection / "line.png"), np.zeros((1, 9000, 3), dtype=np.uint8))
    assert index(collection) == 1
    printed = capsys.readouterr()
    assert "line.png: " in printed.err and "4 new, 0 changed, 0 gone, 1 failed" in printed.out


def test_an_index_of_other_vectors_is_refused(index, collection, tmp_path, capsys):
    assert index(collection, "--prompt", "cat, dog") == 0
    assert index(collection) == 2
    assert f"'{tmp_path / 'index'}' was made with another prompt" in capsys.readouterr().err
    assert index(collection, "--prompt", "cat, dog", "inference.min_size=32") == 2
    assert "was made with another overrides, and" in capsys.readouterr().err


def test_what_cannot_be_indexed(index, collection, tiny_weights, tmp_path, capsys, monkeypatch):
    def error(*words, **options):
        assert index(*words, **options) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "holds no image" in error(tmp_path / "empty")
    (tmp_path / "film.mp4").write_bytes(b"")
    assert "film.mp4' is a video, and an index has images" in error(tmp_path / "film.mp4")
    assert "the prompt is empty" in error(collection, "--prompt", " ")
    assert not (tmp_path / "index").exists()
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "'faiss' is not installed: pip install 'glipv2_d2[search]'" in error(collection)
