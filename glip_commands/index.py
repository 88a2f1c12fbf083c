"""`glip index`: see glipv2_d2/cli/index.py."""

from typing import Any

import click

from glip_commands.command import DEFAULT_MODEL, PackageCommand, model_options, run


@click.command(cls=PackageCommand, short_help="Make the regions of a collection searchable.")
@click.argument(
    "given", nargs=-1, required=True, type=click.UNPROCESSED,
    metavar="IMAGE|FOLDER|ARCHIVE|URL|KEY=VALUE",
)  # fmt: skip
@model_options(default=DEFAULT_MODEL)
@click.option("--output", required=True, metavar="INDEX", help="folder of the index")
@click.option("--prompt", default="", help="boxes of what it names (default: a grid of boxes)")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
@click.option(
    "--max-pixels", type=click.IntRange(min=1), envvar="GLIP_MAX_PIXELS",
    help="of an image (default: 179 million)",
)  # fmt: skip
def index(**options: Any) -> int:
    """Embed the regions of images, so that `glip search` finds them.

    \b
    glip index photos --prompt "red star, blue ring, yellow heart" --output index
    glip search index "a red star next to a ring"

    Images are given as to `glip detect`. Regions are the boxes of what --prompt names, which should
    be all that is ever sought; without it they are 284 boxes of a grid on each image. The model
    needs the projections of the contrastive loss, as the demo's has, which is the default.

    The same command brings an index up to date: images that are new or have changed are embedded,
    those that are gone from the folders and archives that are given are removed; other images of
    the index stay. It goes on after a run that was stopped or killed. Another model, config or
    prompt is refused: its vectors cannot be compared. KEY=VALUE sets a value of the config
    (inference.score_threshold=0.2 keeps more boxes).

    The exit status is 0 when every image was read, 1 when some were not, 2 when nothing could be
    done, 130 when somebody stopped it (Ctrl-C). See docs/search.md.
    """
    return run("index", options)
