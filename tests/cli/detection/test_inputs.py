"""Which images are meant, and what their pictures are called."""

import zipfile

import pytest
from PIL import Image

from glipv2_d2.cli.detection.inputs import find_images, is_input, picture_paths
from glipv2_d2.errors import UsageError
from tests.support.pretraining_files import write_tar


def test_no_two_images_share_a_picture(tmp_path):
    names = ["a.jpg", "a_jpg_2.jpg", "x/a.jpg", "A.JPG", "y/a_jpg.png", "a.png", "z/a.jpg", "b.gif"]
    files = [str(tmp_path / name) for name in names]
    paths = picture_paths(files, tmp_path / "out")
    pictures = [paths[file].name for file in files]
    assert len({name.casefold() for name in pictures}) == len(files)
    assert pictures[:2] == ["a_jpg.jpg", "a_jpg_2.jpg"] and pictures[-1] == "b.jpg"
    # Those of the run before keep theirs.
    given = {files[2]: "a_jpg.jpg"}
    again = picture_paths(files, tmp_path / "out", given)
    assert again[files[2]].name == "a_jpg.jpg" and len(set(again.values())) == len(files)
    with pytest.raises(UsageError, match="could overwrite images there"):
        picture_paths(files, tmp_path)


def test_an_image_that_is_given_twice_is_asked_once(tmp_path):
    for name in "abcd":
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.png")
    given = [str(tmp_path / "a.png"), str(tmp_path), str(tmp_path / "." / "a.png")]
    assert find_images(given).files == [str(tmp_path / f"{name}.png") for name in "abcd"]


@pytest.fixture
def tree(tmp_path):
    """Pictures on three levels, of which one is hidden and one of a run before; and a video."""
    root = tmp_path / "tree"
    for name in ("b.png", "sub/deep/a.JPG", "sub/c.webp", ".git/no.png", "out/b.png", ".no.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(root / name)
    (root / "clip.mp4").write_bytes(b"")
    (root / "sub/notes.txt").write_text("no image")
    (root / "linked").symlink_to(root / "sub")
    return root


def below(root, names):
    return [name.removeprefix(f"{root}/") for name in names]


def test_a_folder_is_taken_with_all_in_it(tree):
    inputs = find_images([str(tree)], tree / "out")
    assert below(tree, inputs.files) == ["b.png", "sub/c.webp", "sub/deep/a.JPG"]
    skipped = [".git/", ".no.png", "clip.mp4", "linked/", "out/", "sub/notes.txt"]
    assert sorted(below(tree, inputs.skipped)) == skipped
    assert below(tree, find_images([str(tree)]).files)[1] == "out/b.png"
    # What is hidden or linked is taken where it is asked for.
    assert below(tree, find_images([str(tree / "linked")]).files)[0] == "linked/c.webp"
    assert below(tree, find_images([str(tree / ".git")]).files) == [".git/no.png"]


def test_patterns(tree):
    (tree / "c[1].png").write_bytes((tree / "b.png").read_bytes())
    pictures = find_images([f"{tree}/sub/**/*.*[gGpP]", f"{tree}/[bc].png", f"{tree}/c[1].png"])
    assert below(tree, pictures.files) == ["sub/c.webp", "sub/deep/a.JPG", "b.png", "c[1].png"]
    assert find_images([f"{tree}/*.mp4"]).videos == [f"{tree}/clip.mp4"]
    assert not is_input(f"{tree}/*=*.png") and is_input(f"{tree}/s*b")
    with pytest.raises(UsageError, match="image or folder '.*gif': nothing fits the pattern"):
        find_images([f"{tree}/*.gif"])


def test_archives(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a=1.png")
    names = ["0.jpg", "0.txt", "1.jpg", "1.txt", "sub/._0.jpg", "key"]
    content = (tmp_path / "a=1.png").read_bytes()
    write_tar(tmp_path / "s.tar", [(name, content) for name in names])
    shard = str(tmp_path / "s.tar")
    inputs = find_images([shard, f"{shard}!1.jpg"])
    assert inputs.files == [f"{shard}!0.jpg", f"{shard}!1.jpg"]
    assert inputs.skipped == [f"{shard}!*.txt (2)", f"{shard}!* (1)", f"{shard}!*.jpg (1)"]
    assert [p.name for p in picture_paths(inputs.files, tmp_path / "out").values()] == [
        "s.tar_0.jpg", "s.tar_1.jpg",
    ]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("a=1.txt", "text")
    assert is_input(f"{tmp_path}/z.zip!a=1.txt") and not is_input(f"{tmp_path}/z.zip!a=2.txt")
    with pytest.raises(UsageError, match="the archive '.*z.zip' holds no image"):
        find_images([f"{tmp_path}/z.zip"])


def test_videos(tmp_path):
    for name in ("a.mp4", "a.png"):
        (tmp_path / name).write_bytes(b"")
    given = [str(tmp_path / name) for name in ("a.png", "a.mp4")]
    given += ["camera:0", "https://host/b.webm?x=1"]
    inputs = find_images(given)
    assert inputs.files == given[:1] and inputs.videos == given[1:]
    paths = picture_paths(given, tmp_path / "out")
    names = ["a_png.jpg", "a_mp4.mp4", "camera_0.mp4", "b.mp4"]
    assert [path.name for path in paths.values()] == names
    with pytest.raises(UsageError, match="there is no image or folder 'none.mp4'"):
        find_images(["none.mp4"])
