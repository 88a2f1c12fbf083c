"""`glip demo`: see glipv2_d2/cli/demo.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, run


@click.command(cls=PackageCommand, short_help="A trained model at work, then one trained.")
@click.option("--model", type=click.Choice(["glip", "glipv2"]), default="glipv2")
@click.option("--iters", type=click.IntRange(min=1), default=300, help="iterations to train")
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="images, questions and captions of each test set; default: all images and 200 of the "
    "others, or 100 below 100 iterations",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="default: output/demo or output/demo_glip"
)
@click.option(
    "--weights", type=click.Path(path_type=Path), help="default: the clone's, in weights/"
)
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
def demo(**options: Any) -> int:
    """The trained model of the demo at work, then the same model trained for some minutes.

    \b
    glip demo               about ten minutes on two CPU cores: boxes, masks, answers, captions
    glip demo --iters 30    a short form: fewer iterations and test images
    glip demo --model glip  the plain GLIP: boxes alone

    Both halves are what anybody would run by hand: the code of `glip detect`, `ask`, `caption` and
    `train`. Left in the output folder: README.md (one page), pictures/, contact_sheet.jpg,
    loss.png, metrics.json.
    """
    return run("demo", options)
