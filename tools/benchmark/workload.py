"""What the models are asked: images and prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
from detectron2.structures import Boxes, Instances
from PIL import Image

from glipv2_d2.errors import ConfigError, MissingPackageError
from glipv2_d2.images import read_image
from glipv2_d2.language import Prompt
from glipv2_d2.scenes.photos import photo_path

from .settings import Settings

PROMPTS = ("one", "twenty", "coco")
LVIS_CHUNK = 40  # names in a prompt of GLIP's LVIS protocol
BOXES_PER_IMAGE = 8
PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
)


def prompt_names(kind: str) -> list[str]:
    """Class names: "one" (person), "twenty" (the first of COCO), "coco" (all 80), "lvis" (1,203).

    COCO's and LVIS's names are those that Detectron2 ships, in the order of their ids.
    """
    if kind == "lvis":
        ordered = sorted(LVIS_CATEGORIES, key=lambda category: category["id"])
        return [category["name"] for category in ordered]
    names = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]
    return names[: {"one": 1, "twenty": 20, "coco": len(names)}[kind]]


def lvis_prompts(tokenizer, chunks: int) -> tuple[list[Prompt], int]:
    """`chunks` of LVIS's prompts, evenly spread over the vocabulary, and how many there are."""
    prompts = tokenizer.split(prompt_names("lvis"), size=LVIS_CHUNK)
    if not 1 <= chunks <= len(prompts):
        raise ConfigError(
            f"--chunks must lie between 1 and {len(prompts)}, the prompts of {LVIS_CHUNK} names "
            f"that LVIS takes; got {chunks}"
        )
    positions = np.linspace(0, len(prompts) - 1, chunks).round().astype(int)
    return [prompts[i] for i in positions], len(prompts)


def make_inputs(settings: Settings, prompt: "Prompt | list[Prompt]", batch: int = 1) -> list[dict]:
    """`batch` input dicts of `settings.size` with one prompt (or list of prompts) for all."""
    height, width = settings.size
    return [
        {"image": _image(settings, i), "height": height, "width": width, "prompt": prompt}
        for i in range(batch)
    ]


def train_inputs(settings: Settings, prompt: Prompt, batch: int) -> list[dict]:
    """The same with boxes of random phrases."""
    height, width = settings.size
    generator = torch.Generator().manual_seed(settings.seed)
    scale = torch.tensor([width, height, width, height])
    inputs = make_inputs(settings, prompt, batch)
    for x in inputs:
        corners = torch.rand((BOXES_PER_IMAGE, 2), generator=generator) * 0.6
        sides = 0.05 + torch.rand((BOXES_PER_IMAGE, 2), generator=generator) * 0.35
        boxes = torch.cat((corners, corners + sides), dim=1) * scale
        x["instances"] = Instances(
            (height, width),
            gt_boxes=Boxes(boxes),
            gt_classes=torch.randint(len(prompt), (BOXES_PER_IMAGE,), generator=generator),
        )
    return inputs


def _image(settings: Settings, index: int) -> torch.Tensor:
    """(3, H, W) uint8, BGR: the index-th file, or photograph, resized to the size asked for."""
    pixels = _pixels(settings.images, index)
    height, width = settings.size
    resized = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height))
    return torch.from_numpy(np.asarray(resized).transpose(2, 0, 1).copy())


def _pixels(images: Sequence[str], index: int) -> np.ndarray:
    if images:
        return read_image(images[index % len(images)])
    try:
        return read_image(photo_path(*PHOTOS[index % len(PHOTOS)]))
    except MissingPackageError as error:
        raise ConfigError(f"{error}, or name files of your own with --image") from error
