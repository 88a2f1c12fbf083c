"""The official Detectron2 v0.6 sdist as a pure-Python wheel; see install_detectron2.py.

Files only: no network, no pip, and nothing of the sdist is executed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

SDIST_NAME = "pb1-detectron2"
SDIST_VERSION = "0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# The local part tells this wheel from an official build; `detectron2==0.6` still matches it.
WHEEL_VERSION = "0.6+purepython"
DIST_INFO = f"detectron2-{WHEEL_VERSION}.dist-info"

# What `import detectron2` and its training, evaluation and drawing need. Left out from v0.6's own
# list: black (pinned to a version of 2021), future and pydot (caffe2 export), and the upper bound
# on iopath, which excludes the release that works on Python 3.12.
REQUIREMENTS = (
    "Pillow>=7.1",
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7",
    "matplotlib",
    "numpy",
    "omegaconf>=2.1",
    "packaging",
    "pycocotools>=2.0.2",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)

# v0.6 installs these three projects inside the package.
PROJECTS = {
    "projects/PointRend/point_rend/": "detectron2/projects/point_rend/",
    "projects/DeepLab/deeplab/": "detectron2/projects/deeplab/",
    "projects/Panoptic-DeepLab/panoptic_deeplab/": "detectron2/projects/panoptic_deeplab/",
}

# Some file of every part that must be in the wheel; a truncated sdist is noticed before pip is.
MUST_HAVE = (
    "detectron2/__init__.py",
    "detectron2/modeling/__init__.py",
    "detectron2/model_zoo/configs/common/train.py",
    "detectron2/model_zoo/configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "detectron2/projects/point_rend/__init__.py",
)


class InstallError(RuntimeError):
    """What went wrong and what to do about it, in words for the person at the console."""


@dataclass(frozen=True)
class Repair:
    """One textual repair: `pattern` (a regex) becomes `replacement` in each of `files`."""

    reason: str
    files: tuple[str, ...]
    pattern: str
    replacement: str

    def apply(self, sources: dict[str, bytes]) -> None:
        """Repair `sources` (path in the wheel -> content) in place.

        Raises InstallError where a file is missing or where there was nothing to repair: both
        mean that these are not the sources that the repairs were written for.
        """
        for name in self.files:
            if name not in sources:
                raise InstallError(f"repair '{self.reason}': the sdist has no file {name}.")
            text, count = re.subn(self.pattern, self.replacement, sources[name].decode("utf-8"))
            if not count:
                raise InstallError(f"repair '{self.reason}' found nothing to change in {name}.")
            compile(text, name, "exec")
            sources[name] = text.encode("utf-8")


REPAIRS = (
    Repair(
        "Pillow 10 removed Image.LINEAR",
        ("detectron2/data/transforms/transform.py",),
        r"\bImage\.LINEAR\b",
        "Image.BILINEAR",
    ),
    Repair(
        "NumPy 1.24 removed its aliases of the built-in types",
        (
            "detectron2/data/build.py",
            "detectron2/data/datasets/pascal_voc.py",
            "detectron2/evaluation/pascal_voc_evaluation.py",
            "detectron2/evaluation/sem_seg_evaluation.py",
            "detectron2/structures/masks.py",
            "detectron2/utils/video_visualizer.py",
            "detectron2/utils/visualizer.py",
        ),
        r"\bnp\.(bool|int|float|str|object)\b",
        r"\1",
    ),
    Repair(
        "setuptools 82 removed pkg_resources (import)",
        ("detectron2/model_zoo/model_zoo.py",),
        r"(?m)^import pkg_resources$",
        "import importlib.resources",
    ),
    Repair(
        "setuptools 82 removed pkg_resources (use)",
        ("detectron2/model_zoo/model_zoo.py",),
        r"pkg_resources\.resource_filename\(\s*"
        r'"detectron2\.model_zoo", os\.path\.join\("configs", config_path\)\s*\)',
        'str(importlib.resources.files("detectron2.model_zoo") / "configs" / config_path)',
    ),
    Repair(
        "the compiled operators are optional",
        (
            "detectron2/layers/deform_conv.py",
            "detectron2/layers/roi_align_rotated.py",
            "detectron2/layers/rotated_boxes.py",
        ),
        r"(?m)^from detectron2 import _C$",
        "try:\n    from detectron2 import _C\n"
        "except ImportError:  # a build without the compiled operators\n    _C = None",
    ),
    # Here and not in fast_eval_api.py: COCOEvaluator's default would call what is not there.
    Repair(
        "the compiled COCO evaluation is optional",
        ("detectron2/evaluation/coco_evaluation.py",),
        r"(?m)^from detectron2\.evaluation\.fast_eval_api import COCOeval_opt$",
        "try:\n    from detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
        "except ImportError:  # a build without the compiled operators\n"
        "    COCOeval_opt = COCOeval",
    ),
    Repair(
        "torch.meshgrid wants its indexing named",
        ("detectron2/modeling/anchor_generator.py",),
        r"torch\.meshgrid\(shifts_y, shifts_x\)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
    ),
)


def check_hash(sdist: Path, expected: str = SDIST_SHA256) -> None:
    """InstallError if `sdist` is unreadable or is not the file whose sha256 is `expected`."""
    try:
        found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    except OSError as error:
        raise InstallError(f"cannot read the sdist {sdist}: {error.strerror}.") from error
    if found != expected:
        raise InstallError(
            f"{sdist} is not the official Detectron2 v0.6 sdist ({SDIST_NAME}-{SDIST_VERSION}"
            f".tar.gz): its sha256 is {found}, expected {expected}. Nothing was installed."
        )


def read_sdist(sdist: Path) -> dict[str, bytes]:
    """Read the files that belong into the wheel: {path in the wheel: content}."""
    sources = {}
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            for member in archive:
                name = member.name.partition("/")[2]  # without the folder pb1-detectron2-0.6
                for origin, place in PROJECTS.items():
                    if name.startswith(origin):
                        name = place + name[len(origin) :]
                if name == "LICENSE":
                    name = f"{DIST_INFO}/LICENSE"
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and name.startswith(("detectron2/", DIST_INFO)):
                    sources[name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InstallError(f"{sdist} is not a readable .tar.gz archive: {error}.") from error
    missing = [name for name in MUST_HAVE if name not in sources]
    if missing:
        raise InstallError(f"{sdist} is incomplete: it has no {', '.join(missing)}.")
    return sources


def write_wheel(sources: dict[str, bytes], folder: Path) -> Path:
    """Write `sources` as a pure-Python wheel into `folder`; same sources give the same bytes."""
    metadata = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {WHEEL_VERSION}",
        "Summary: Detectron2 v0.6 without its compiled operators, repaired for current packages",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "License: Apache 2.0",
        "Requires-Python: >=3.8",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS),
    ]
    files = dict(sorted(sources.items()))
    files[f"{DIST_INFO}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    files[f"{DIST_INFO}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: install_detectron2\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = io.StringIO()
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.write(f"{name},sha256={digest},{len(content)}\n")
    record.write(f"{DIST_INFO}/RECORD,,\n")
    files[f"{DIST_INFO}/RECORD"] = record.getvalue().encode()

    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"detectron2-{WHEEL_VERSION}-py3-none-any.whl"
    partial = wheel.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    partial.replace(wheel)
    return wheel


def build_wheel(sdist: Path, folder: Path, expected: str = SDIST_SHA256) -> Path:
    """Check, repair and rebuild `sdist`; return the wheel, written into `folder`.

    Raises InstallError if it is not the file whose sha256 is `expected`, is no archive or is
    incomplete, or if a repair finds nothing to change.
    """
    check_hash(sdist, expected)
    sources = read_sdist(sdist)
    for repair in REPAIRS:
        repair.apply(sources)
    return write_wheel(sources, folder)
