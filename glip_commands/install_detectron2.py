"""Install Detectron2 into the Python that runs this, without compiling and without git.

Detectron2 is not on the Python package index under its own name. The index has an sdist of the
official release v0.6 as `pb1-detectron2`; it lacks the C++ sources, so `pip install` of it
fails. This command

1. keeps a Detectron2 that imports already (a build from git with its C++ operators is better than
   anything made here);
2. else gets that sdist through pip, and therefore from the index that pip is configured for,
   checks its sha256, repairs what today's NumPy, Pillow, setuptools and PyTorch no longer have,
   and makes the compiled operators optional (detectron2_wheel.py);
3. writes a pure-Python wheel of it and lets pip install that with the dependencies it needs.

Nothing of the sdist is executed. torch and torchvision must be there first.

    glip install-detectron2                  # what most people want
    glip install-detectron2 --from-git       # Detectron2's head, compiles its operators
    glip install-detectron2 --wheel-dir DIR  # keep the wheel, for machines without net
    glip install-detectron2 --sdist FILE     # a file at hand instead of the index

In a clone it is `python tools/install_detectron2.py`, which needs nothing but Python and pip.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from glip_commands.detectron2_wheel import (
    REQUIREMENTS,
    SDIST_NAME,
    SDIST_SHA256,
    SDIST_VERSION,
    InstallError,
    build_wheel,
)

GIT_URL = "git+https://github.com/facebookresearch/detectron2.git"
MIN_TORCH = (2, 4)

# Detectron2's Visualizer draws with OpenCV and leaves its choice to the user, since the index has
# it under several names that must not be mixed. This one is taken where there is none.
OPENCV = "opencv-python-headless"

# A build back end that answers pip's question for the sdist's metadata without running the
# sdist's setup.py. It is put in front of setuptools for the download only: setup.py would need
# torch at build time, and pip 26 refuses the direct URL in one of its extras.
BACKEND = """
import os

class _Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        name = "{folder}.dist-info"
        os.mkdir(os.path.join(metadata_directory, name))
        with open(os.path.join(metadata_directory, name, "METADATA"), "w") as f:
            f.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return name

__legacy__ = _Backend()
"""


def run_python(code: str) -> subprocess.CompletedProcess:
    """Run `code` in a fresh interpreter, away from the current folder's modules."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
        )


def last_line(text: str) -> str:
    """The last line of `text` that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def installed_detectron2() -> tuple[str | None, str | None]:
    """Look for a Detectron2 that imports.

    Returns (where, None) if there is one, (None, None) if there is none, and (None, error) if
    one is installed that does not import.
    """
    probe = (
        "import importlib.util as u, sys\n"
        "sys.exit(7) if u.find_spec('detectron2') is None else None\n"
        "import detectron2\n"
        "from detectron2.modeling import build_model\n"
        "print(detectron2.__version__, 'in', list(detectron2.__path__)[0])\n"
    )
    result = run_python(probe)
    if result.returncode == 0:
        return last_line(result.stdout), None
    return None, None if result.returncode == 7 else last_line(result.stderr)


def check_torch() -> str:
    """Return torch's version. InstallError if torch or torchvision is missing, old or unfit."""
    remedy = f'Install a fitting pair first: "{sys.executable}" -m pip install torch torchvision'
    result = run_python("import torch; print(torch.__version__)")
    if result.returncode:
        raise InstallError(
            f"PyTorch cannot be imported by {sys.executable}: {last_line(result.stderr)}. {remedy}"
        )
    version = last_line(result.stdout)
    number = re.match(r"(\d+)\.(\d+)", version)
    if number and tuple(map(int, number.groups())) < MIN_TORCH:
        wanted = ".".join(map(str, MIN_TORCH))
        raise InstallError(f"PyTorch {version} is older than {wanted}. {remedy}")
    # A torchvision built for another torch imports in some releases and lacks its operators.
    result = run_python(
        "import torch, torchvision\n"
        "torchvision.ops.nms(torch.tensor([[0., 0., 1., 1.]]), torch.ones(1), 0.5)"
    )
    if result.returncode:
        problem = last_line(result.stderr)
        raise InstallError(f"torchvision does not work with PyTorch {version}: {problem}. {remedy}")
    return version


def pip(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run this interpreter's pip, with the user's own pip configuration."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def pip_error(result: subprocess.CompletedProcess) -> str:
    """One line that says why pip failed."""
    output = result.stdout + "\n" + result.stderr
    if "No module named pip" in output:
        return f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip --upgrade"
    if "DO NOT MATCH THE HASHES" in output:
        return (
            "the index served a file with another sha256 than the official one: it was changed "
            "or damaged on its way, and nothing of it was installed"
        )
    offline = ("NewConnectionError", "ConnectTimeout", "NameResolution", "Could not fetch URL")
    if any(sign in output for sign in offline):
        return "the package index cannot be reached (network, proxy, or pip's index settings)"
    errors = [line for line in output.splitlines() if line.lower().startswith("error:")]
    return last_line(errors[0] if errors else output)


def download_sdist(folder: Path) -> Path:
    """Let pip fetch the sdist into `folder`; its hash is checked before pip looks inside."""
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("")
    distribution = f"{SDIST_NAME.replace('-', '_')}-{SDIST_VERSION}"
    (backend / "build_meta.py").write_text(
        BACKEND.format(folder=distribution, name=SDIST_NAME, version=SDIST_VERSION)
    )
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{SDIST_NAME}=={SDIST_VERSION} --hash=sha256:{SDIST_SHA256}\n")
    target = folder / "sdist"
    result = pip(
        *("download", "--no-deps", "--no-build-isolation", "--no-binary", SDIST_NAME),
        *("--require-hashes", "--requirement", str(wanted), "--dest", str(target)),
        env={
            "PYTHONPATH": str(backend.parent),
            "PIP_USE_PEP517": "1",  # what pip 26 always does; older ones would run setup.py
            "SETUPTOOLS_USE_DISTUTILS": "stdlib",  # keeps setuptools' start-up hook out of the way
        },
    )
    files = sorted(target.glob("*.tar.gz")) if target.is_dir() else []
    if result.returncode or not files:
        raise InstallError(
            f"cannot get {SDIST_NAME} {SDIST_VERSION}: {pip_error(result)}. "
            "With a copy of the file at hand: --sdist FILE"
        )
    return files[0]


def make_wheel(sdist: Path | None, folder: Path) -> Path:
    """Make the wheel in `folder`, of `sdist` or else of the one that pip downloads."""
    with tempfile.TemporaryDirectory() as scratch:
        if sdist is None:
            print(f"Getting {SDIST_NAME} {SDIST_VERSION} from the package index", flush=True)
            sdist = download_sdist(Path(scratch))
        return build_wheel(sdist, folder)


def install(*what: str) -> None:
    """pip install `what` and an OpenCV if none is there; make sure that Detectron2 imports."""
    if run_python("import cv2").returncode:
        install_requirements(OPENCV)
    result = pip("install", *what)
    if result.returncode:
        raise InstallError(f"pip could not install Detectron2: {pip_error(result)}")
    where, problem = installed_detectron2()
    if where is None:
        raise InstallError(f"Detectron2 was installed but does not import: {problem}")
    print(f"Installed Detectron2 {where}")


def install_requirements(*requirements: str) -> None:
    """pip install `requirements`, leaving alone what fits already."""
    result = pip("install", *requirements)
    if result.returncode:
        raise InstallError(f"pip could not install Detectron2's dependencies: {pip_error(result)}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InstallError(f"{message} (see {self.prog} --help)")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = _Parser(
        prog="glip install-detectron2",
        description="Install Detectron2 (v0.6 as a pure-Python wheel, or the head from git).",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-git", action="store_true", help="install Detectron2's head")
    source.add_argument("--sdist", type=Path, metavar="FILE", help="use this sdist, no download")
    parser.add_argument("--wheel-dir", type=Path, metavar="DIR", help="keep the wheel in DIR")
    parser.add_argument("--force", action="store_true", help="replace a Detectron2 that works")
    arguments = parser.parse_args(argv)
    if arguments.from_git and arguments.wheel_dir:
        parser.error("--wheel-dir keeps the v0.6 wheel; it does not go with --from-git")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for; InstallError says what stood in the way."""
    where, problem = installed_detectron2()
    keep = where is not None and not arguments.force
    if keep:
        print(f"Keeping Detectron2 {where} (--force replaces it)")
        if not arguments.wheel_dir:
            return
    if not keep:
        print(f"PyTorch {check_torch()} and its torchvision work", flush=True)
        if problem:
            print(f"Replacing a Detectron2 that does not import ({problem})", flush=True)
    replace = ["--force-reinstall", "--no-deps"] if where or problem else []
    if arguments.from_git:
        # The head's model_zoo imports pkg_resources, which setuptools 82 removed.
        install_requirements("setuptools<82", "wheel", *REQUIREMENTS)
        install(*replace, "--no-build-isolation", GIT_URL)
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheel = make_wheel(arguments.sdist, arguments.wheel_dir or Path(scratch))
        if arguments.wheel_dir:
            print(f"Wrote {wheel}", flush=True)
        if not keep:
            # The dependencies in a step of their own: --no-deps above would skip them.
            if replace:
                install_requirements(*REQUIREMENTS)
            install(*replace, str(wheel))


def main(argv: list[str] | None = None) -> int:
    try:
        run(parse_arguments(argv))
    except (InstallError, OSError) as error:  # OSError: a folder that cannot be written, no space
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run it again to finish", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
