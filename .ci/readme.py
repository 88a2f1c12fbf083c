"""Runs what README.md says, in order: its `glip` and `python` commands and its Python blocks.

Not run: `make` and `pip` lines (CI runs the former, the former runs the latter). The working
directory is a temporary folder that looks like the clone, with a photo and a small data set of
one's own in it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


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


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ.update(PYTHONPATH=str(ROOT), PATH=path)  # this clone, not what is installed
        os.environ["TMPDIR"] = str(folder / "tmp")
        (folder / "tmp").mkdir()
        furnish(folder)
        count = 0
        for page in (ROOT / "README.md", ROOT / "datasets" / "README.md"):
            for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
                if language == "python":
                    print(f"== {page.name}: a Python block of {len(block.splitlines())} lines")
                    run_python(block, folder)
                    count += 1
                elif language == "bash":
                    for command in commands(block):
                        if "tools/install_detectron2.py" in command:
                            continue  # `make venv` ran it
                        print("==", *command, flush=True)
                        subprocess.run(command, cwd=folder, check=True)
                        count += 1
                    for checkpoint in (folder / "output").rglob("*.pth"):
                        checkpoint.unlink()  # of a block, hundreds of MB
    print(f"README: {count} commands and blocks ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
