import importlib.util
import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from glipv2_d2.scenes import photos
from glipv2_d2.scenes.build import ScenesError, build_scenes
from glipv2_d2.scenes.vocabulary import BASE_CLASSES, HELD_OUT_PAIRS, NOVEL_CLASSES

TINY = {"seed": 1, "size": 64, "train": 5, "val": 2, "novel": 2}
# Of pycocotools itself, on NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

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


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/precious.jpg").write_text("x")
    with pytest.raises(ScenesError, match="choose another --output"):
        build_scenes(tmp_path, workers=1, **TINY)
    (tmp_path / "manifest.json").write_text('{"name": "somebody else\'s"}')
    with pytest.raises(ScenesError, match="choose another --output"):
        build_scenes(tmp_path, workers=1, **TINY)
    assert (tmp_path / "train/precious.jpg").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ScenesError, match=r"cannot write.*file.*--output"):
        build_scenes(tmp_path / "file" / "scenes", workers=1, **TINY)


@pytest.mark.parametrize(
    ("name", "value"), [("train", 0), ("size", 32), ("seed", -1), ("workers", 0)]
)
def test_bad_arguments_are_named(tmp_path, name, value):
    with pytest.raises(ScenesError, match=f"--{name}"):
        build_scenes(tmp_path / "scenes", **{**TINY, name: value})
    assert not (tmp_path / "scenes").exists()


def test_missing_photographs_name_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(photos.PhotoError, match="pip install scikit-image"):
        build_scenes(tmp_path / "scenes", workers=1, **TINY)
    monkeypatch.undo()
    with pytest.raises(photos.PhotoError, match="--force-reinstall scikit-learn"):
        photos.photo_path("sklearn", "datasets/images/none.jpg")


def test_the_twelve_pairs_occur_in_novel_only(annotations):
    held_out = {" ".join(pair) for pair in HELD_OUT_PAIRS}
    assert held_out == set(NOVEL_CLASSES)
    train_names = [c["name"] for c in annotations["train"]["categories"]]
    assert train_names == list(BASE_CLASSES)
    for split in ("val", "novel"):
        assert len(annotations[split]["categories"]) == 64
    used = {}
    for split in ("train", "val", "novel"):
        names = {c["id"]: c["name"] for c in annotations[split]["categories"]}
        used[split] = {names[a["category_id"]] for a in annotations[split]["annotations"]}
    assert not used["train"] & held_out and not used["val"] & held_out
    assert used["novel"] >= held_out
    # The words are checked in the whole files too: names, captions and whatever else is there.
    for stem in ("train", "train_grounding"):
        text = json.dumps(annotations[stem])
        assert not any(name in text for name in held_out)


def test_every_novel_image_has_its_distractors(annotations):
    content = annotations["novel"]
    names = {c["id"]: tuple(c["name"].split()) for c in content["categories"]}
    for image in content["images"]:
        pairs = [
            names[a["category_id"]] for a in content["annotations"] if a["image_id"] == image["id"]
        ]
        novel = [pair for pair in pairs if pair in HELD_OUT_PAIRS]
        base = [pair for pair in pairs if pair not in HELD_OUT_PAIRS]
        assert 1 <= len(novel) <= 3 and len(pairs) <= 8
        for color, shape in novel:
            assert sum(pair[0] == color for pair in base) >= 2
            assert sum(pair[1] == shape for pair in base) >= 2


@pytest.mark.parametrize("split", ["train", "val", "novel"])
def test_boxes_are_the_tight_boxes_of_the_masks(scenes_root, annotations, split):
    content = annotations[split]
    images = {image["id"]: image for image in content["images"]}
    masks = {}
    for a in content["annotations"]:
        image = images[a["image_id"]]
        assert a["segmentation"]["size"] == [image["height"], image["width"]]
        mask = mask_util.decode(a["segmentation"]).astype(bool)
        assert a["area"] == mask.sum() > 0 and a["iscrowd"] == 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, width, height = a["bbox"]
        assert (x, y) == (columns[0], rows[0])
        assert (x + width, y + height) == (columns[-1] + 1, rows[-1] + 1)
        masks.setdefault(a["image_id"], []).append(mask)
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
    for image_id, image in images.items():
        assert 3 <= len(masks[image_id]) <= 8
        assert np.sum(masks[image_id], axis=0).max() == 1
        with Image.open(scenes_root / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) and picture.mode == "RGB"


def test_grounding_files_have_the_fields_of_mdetr(annotations):
    content = annotations["train_grounding"]
    assert {"images", "annotations", "categories"} <= content.keys()
    for image in content["images"]:
        assert {"file_name", "height", "width", "id", "caption"} <= image.keys()
        assert image["dataset_name"] == "scenes"
        assert image["tokens_negative"] == [[0, len(image["caption"])]]
    for a in content["annotations"]:
        assert {"id", "image_id", "category_id", "area", "iscrowd", "bbox"} <= a.keys()
        assert all(0 <= start < end for start, end in a["tokens_positive"])


@pytest.fixture
def command():
    """datasets/prepare_scenes.py as a module; a process of its own would import PyTorch anew."""
    spec = importlib.util.spec_from_file_location("prepare_scenes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    arguments = [f"--{name}={value}" for name, value in TINY.items()] + ["--workers=1"]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "9/9 images" in printed and "written to" in printed
    assert (tmp_path / "scenes/annotations/train.json").is_file()
    assert command.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert command.main([*arguments, "--size=1"]) == 2
    assert "error: --size must be" in capsys.readouterr().err
