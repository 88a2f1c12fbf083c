import importlib.util
import json
from pathlib import Path

import pytest

from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.scenes.build import build_scenes

TINY = {"seed": 1, "size": 64, "train": 5, "val": 2, "novel": 2}
SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_scenes.py"


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_files_whatever_the_workers(tmp_path):
    seen = []
    assert build_scenes(tmp_path / "one", workers=1, progress=lambda *a: seen.append(a), **TINY)
    assert build_scenes(tmp_path / "two", workers=2, **TINY)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert seen == [(i, 9) for i in range(1, 10)]
    assert build_scenes(tmp_path / "other", workers=1, **{**TINY, "seed": 2})
    first = Path("train/000000.jpg")
    assert contents(tmp_path / "one")[first] != contents(tmp_path / "other")[first]


def test_more_images_leave_the_first_ones_as_they_are(tmp_path):
    build_scenes(tmp_path / "few", workers=1, **TINY)
    build_scenes(tmp_path / "more", workers=1, **{**TINY, "train": 7})
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert all(more[path] == data for path, data in few.items() if path.suffix == ".jpg")


def test_a_complete_folder_is_kept_and_a_broken_one_made_again(tmp_path):
    root = tmp_path / "scenes"
    build_scenes(root, workers=1, **TINY)
    whole = contents(root)
    assert not build_scenes(root, workers=1, **TINY)
    (root / "val/000001.jpg").unlink()
    assert build_scenes(root, workers=1, **TINY)
    (root / "annotations/train.json").write_text("{}")
    assert build_scenes(root, workers=1, **TINY)
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    assert build_scenes(root, workers=1, **TINY)
    assert contents(root) == whole
    assert build_scenes(root, workers=1, **{**TINY, "train": 4})
    assert len(list((root / "train").glob("*.jpg"))) == 4


def test_a_folder_of_an_earlier_version_gets_what_it_lacks_and_keeps_the_rest(tmp_path):
    root = tmp_path / "scenes"
    build_scenes(root, workers=1, **TINY)
    whole = contents(root)
    manifest = json.loads(whole[Path("manifest.json")])
    texts = manifest.pop("derived")["files"]
    assert len(texts) == 21
    for name in texts:
        (root / name).unlink()
    (root / "manifest.json").write_text(json.dumps(manifest))
    picture = root / "train/000000.jpg"
    before = picture.stat().st_mtime_ns
    assert build_scenes(root, workers=1, **TINY)
    assert contents(root) == whole and picture.stat().st_mtime_ns == before
    (root / "annotations/val_vqa.json").unlink()
    assert build_scenes(root, workers=1, **TINY)
    assert contents(root) == whole and picture.stat().st_mtime_ns == before
    assert not build_scenes(root, workers=1, **TINY)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/precious.jpg").write_text("x")
    with pytest.raises(DataError, match="choose another --output"):
        build_scenes(tmp_path, workers=1, **TINY)
    (tmp_path / "manifest.json").write_text('{"name": "somebody else\'s"}')
    with pytest.raises(DataError, match="choose another --output"):
        build_scenes(tmp_path, workers=1, **TINY)
    assert (tmp_path / "train/precious.jpg").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"cannot write.*file.*--output"):
        build_scenes(tmp_path / "file" / "scenes", workers=1, **TINY)


@pytest.mark.parametrize(
    ("name", "value"), [("train", 0), ("size", 32), ("seed", -1), ("workers", 0)]
)
def test_bad_arguments_are_named(tmp_path, name, value):
    with pytest.raises(UsageError, match=f"--{name}"):
        build_scenes(tmp_path / "scenes", **{**TINY, name: value})
    assert not (tmp_path / "scenes").exists()


@pytest.fixture
def prepare_scenes():
    """datasets/prepare_scenes.py as a module; a process of its own would import PyTorch anew."""
    spec = importlib.util.spec_from_file_location("prepare_scenes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command(prepare_scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    arguments = [f"--{name}={value}" for name, value in TINY.items()] + ["--workers=1"]
    assert prepare_scenes.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "9/9 images" in printed and "written to" in printed
    assert (tmp_path / "scenes/annotations/train.json").is_file()
    assert prepare_scenes.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert prepare_scenes.main([*arguments, "--size=1"]) == 2
    assert "error: --size must be" in capsys.readouterr().err
