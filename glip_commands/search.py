"""`glip search`: see glipv2_d2/cli/search.py."""

from typing import Any

import click

from glip_commands.command import PackageCommand, run


@click.command(cls=PackageCommand, short_help="Find regions of a collection by a text or a box.")
@click.argument("index")
@click.argument("text", default="")
@click.option("--box", default="", metavar="X1,Y1,X2,Y2", help="of --image: what is like it")
@click.option("--image", default="", metavar="FILE", help="with --box; also an address")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="results")
@click.option(
    "--rerank", type=click.IntRange(min=0), metavar="N",
    help="images that the whole model looks at (default: 20 for a text of several phrases, else 0)",
)  # fmt: skip
@click.option("--sheet", default="", metavar="FILE", help="write a picture of the results, a PNG")
@click.option("--json", is_flag=True, help="print json instead of a table")
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
def search(**options: Any) -> int:
    """Find the regions of an index that fit a TEXT, or are like a box of an image.

    \b
    glip search index "red star" --sheet stars.png
    glip search index "a red star next to a ring"
    glip search index --image photo.jpg --box 40,60,90,120 --top 50 --json

    The model is that of the index. A text is about its first phrase, or the one in [brackets]; with
    one phrase the index answers alone. Where a text has more, the model looks at the images of the
    best 20 regions again with all of it in mind, and ranks what it finds there (--rerank).

    A score is the cosine of two vectors, -1 to 1, or, after re-ranking, the product of the scores
    of the phrases. The exit status is 0, also when nothing is found, and 2 after an error.
    """
    return run("search", options)
