"""Runs what the documents say: the blocks `bash` and `python` of every page, and the notebooks.

Of `bash` the `glip` and `python` lines; `make` is CI's, which runs `pip`. Blocks `sh` and `py` are
not run: they need data, weights or time that are not here. The pages of `BY_TESTS` are run by
tests, on small models. The working directory is a temporary folder that looks like the clone, with
a photo and a small data set of one's own in it.

    python .ci/documents.py                        # everything
    python .ci/documents.py docs/detect.md         # some of it
    python .ci/documents.py --store docs/notebooks/ask_and_caption.ipynb

`--store` writes the outputs of a notebook into it: do so after a change of its cells.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BY_TESTS = {
    "docs/evaluation.md": "tests/engine/test_evaluation_page.py",
    "docs/export.md": "tests/export/test_package.py",
    "docs/extending.md": "tests/test_extending.py",
}


def documents() -> list[Path]:
    """What is run where nothing is named: all pages, then all notebooks."""
    pages = [ROOT / "README.md", ROOT / "datasets" / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages = [page for page in pages if page.relative_to(ROOT).as_posix() not in BY_TESTS]
    return [*pages, *(ROOT / "docs").rglob("*.ipynb")]


def commands(block: str) -> list[list[str]]:
    """The `glip` and `python` command lines of a shell block, continuation lines joined."""
    lines = block.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words and words[0] in ("glip", "python")]


def furnish(folder: Path) -> None:
    """Links to the clone, a photo, and COCO json with pictures as somebody's own data."""
    for name in ("configs", "datasets", "tests", "tools", "train_net.py", "weights"):
        (folder / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "datasets/prepare_scenes.py"], cwd=folder, check=True)
    scenes = ROOT / "datasets" / "scenes"
    shutil.copy(next((scenes / "val").iterdir()), folder / "photo.jpg")
    (folder / "photos").mkdir()
    for path in sorted((scenes / "val").iterdir())[:4]:
        shutil.copy(path, folder / "photos")
    (folder / "my").mkdir()
    (folder / "my" / "images").symlink_to(scenes)
    for name, source in (
        ("train", "train"),
        ("val", "val"),
        ("annotations", "val"),
        ("captions", "train_grounding"),
    ):
        content = json.loads((scenes / "annotations" / f"{source}.json").read_text())
        (folder / "my" / f"{name}.json").write_text(json.dumps(content))


def run_python(code: str, folder: Path) -> None:
    """A Python block; one that begins with the name of a file is what that file holds."""
    name = re.match(r"# (\w+\.py)\n", code)
    if name:
        (folder / name.group(1)).write_text(code)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def run_page(page: Path, folder: Path) -> int:
    """How many commands and blocks of a page ran."""
    count = 0
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            print(f"== {page.name}: a Python block of {len(block.splitlines())} lines", flush=True)
            run_python(block, folder)
            count += 1
        elif language == "bash":
            for command in commands(block):
                print(f"== {page.name}:", *command, flush=True)
                subprocess.run(command, cwd=folder, check=True)
                count += 1
        for checkpoint in (folder / "output").rglob("*.pth"):
            checkpoint.unlink()  # of a block, hundreds of MB
    return count


def run_notebook(path: Path, folder: Path, store: bool) -> int:
    """How many cells of a notebook ran; its outputs go into the file if they are to be stored."""
    print("==", path.name, flush=True)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    if store:
        for cell in notebook.cells:
            cell.metadata = {}  # times of this run
            if cell.cell_type == "code":
                cell.outputs = [_small(o) for o in cell.outputs if o.get("name") != "stderr"]
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
        nbformat.write(notebook, path)
    return sum(cell.cell_type == "code" for cell in notebook.cells)


def _small(output):
    """Of a picture that is there as PNG and JPEG the JPEG."""
    if "image/jpeg" in output.get("data", {}):
        output.data = {"image/jpeg": output.data["image/jpeg"]}
    return output


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("documents", nargs="*", type=Path, help="default: all")
    parser.add_argument("--store", action="store_true", help="write outputs into the notebooks")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ.update(PYTHONPATH=str(ROOT), PATH=path)  # this clone, not what is installed
        os.environ["TMPDIR"] = str(folder / "tmp")  # what is left there goes with the folder
        (folder / "tmp").mkdir()
        furnish(folder)
        count = 0
        for document in given.documents or documents():
            if document.suffix == ".ipynb":
                count += run_notebook(document, folder, given.store)
            else:
                count += run_page(document, folder)
    print(f"documents: {count} commands, blocks and cells ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
