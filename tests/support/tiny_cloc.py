"""A tiny CLOC of the shipped config, and inputs for it."""

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Boxes, Instances

from glipv2_d2.config import get_config
from glipv2_d2.language import Prompt

SIDE = 32


def tiny_cloc_config(**overrides):
    """The demo's model made small: a 4 x 4 grid of patches. `overrides`: dotted keys."""
    model = get_config("demo/scenes_cloc.py").model
    model.visual.image_size = SIDE
    model.visual.sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
    model.language_backbone.update(width=16, num_heads=2, num_layers=2, max_tokens=24)
    model.prompter.channels = 16
    model.embed_channels = 8
    LazyConfig.apply_overrides(model, [f"{key}={value}" for key, value in overrides.items()])
    return model


def tiny_cloc(seed=0, **overrides):
    """Random weights of a size that lets each of them matter, in evaluation mode."""
    torch.manual_seed(seed)
    model = instantiate(tiny_cloc_config(**overrides)).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name and name != "log_temperature":
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def picture(seed=0, height=SIDE, width=SIDE):
    """(3, H, W) uint8 noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def region_input(prompt, phrases, seed=0, height=SIDE, width=SIDE):
    """A training input with a box for each of `phrases`; None: a caption alone."""
    x = {"image": picture(seed, height, width), "prompt": prompt, "file_name": f"{seed}.jpg"}
    if phrases is not None:
        generator = torch.Generator().manual_seed(seed)
        corners = torch.rand(len(phrases), 2, 2, generator=generator).sort(dim=1).values
        boxes = Boxes(corners.flatten(1) * torch.tensor([width, height] * 2))
        classes = torch.tensor(phrases, dtype=torch.int64)
        x["instances"] = Instances((height, width), gt_boxes=boxes, gt_classes=classes)
    return x


def region_batch():
    """Eight images: sentences, a list of names, captions alone, an image of which nothing is said;
    "red star" twice."""
    said = [
        (Prompt.parse("a [red star] by a [blue ring]"), [0, 1]),
        (Prompt.from_classes(["cat", "red star", "dog"]), [1, 2, 2]),
        (Prompt.from_caption("nothing is known of it", (), kind="caption"), None),
        (Prompt.parse("[two moons]"), [0]),
        (Prompt.from_classes(["cat", "dog"]), []),
        (Prompt.parse("the [green cross] below [a heart]"), [1, 0, 1]),
        (Prompt.from_caption("another caption", (), kind="caption"), None),
        (Prompt.parse("a [white square]"), [0]),
    ]
    sizes = [(32, 24), (20, 32)] * 4
    pairs = enumerate(zip(said, sizes))
    return [region_input(p, phrases, i, *size) for i, ((p, phrases), size) in pairs]
