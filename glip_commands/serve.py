"""`glip serve`: see glipv2_d2/cli/serve.py."""

from typing import Any

import click

from glip_commands.command import DEFAULT_MODEL, PackageCommand, model_options, run

_COUNT = click.IntRange(min=1)


@click.command(cls=PackageCommand, short_help="A web page and a REST interface to a model.")
@model_options(default=DEFAULT_MODEL, exports=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: other machines, too")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: a free one"
)
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
@click.option("--phrases", default="rules", help='finds phrases: "rules", "spacy", ...')
@click.option(
    "--batch-size", type=_COUNT, default=8, show_default=True,
    help="most requests that the model answers together",
)  # fmt: skip
@click.option("--max-upload-mb", type=_COUNT, default=20, show_default=True)
@click.option(
    "--max-megapixels", type=click.IntRange(1, 178), default=50, show_default=True,
    help="of an image; Pillow refuses more than 178",
)  # fmt: skip
@click.option(
    "--max-requests", type=_COUNT, default=64, show_default=True,
    help="at once; a further one is asked to come again",
)  # fmt: skip
@click.option("--timeout", type=_COUNT, default=60, show_default=True, help="seconds of a request")
@click.option(
    "--cache-mb", type=_COUNT, default=1000, show_default=True, help="for images that are kept"
)
@click.option(
    "--keep-minutes", type=_COUNT, default=60, show_default=True,
    help="an image, after it was asked about last",
)  # fmt: skip
@click.option(
    "--index", default="", metavar="INDEX", help="make an index of `glip index` searchable, too"
)
@click.option("--allow-urls", is_flag=True, help="fetch images of public http addresses")
def serve(**options: Any) -> int:
    """Serve a model: a web page for people, a REST interface for programs.

    \b
    glip serve
    glip serve --model glip_t --device cuda

    Without a model it is the demo's, which knows colored shapes and nothing else. Open the address
    that is printed: drop a photo, type names, a sentence or a question. Programs find the interface
    at /openapi.json:

    \b
    curl -F image=@photo.jpg -F prompt="red star, blue ring" http://127.0.0.1:7860/v1/detect

    An image is encoded once and asked any number of times. What waits while the model runs is
    answered together; each client gets its own answer. Nothing is written to the disk, no file of
    it is served, and images of addresses are fetched with --allow-urls alone, from public hosts.

    With --index everybody who reaches the address can search the collection at /search.html, and
    sees its regions and the names of its files. The model must be that of the index.

    There is no login: whoever reaches the address can use it. For more than your own machine put a
    proxy with TLS and a login before it (docs/serve.md).

    Ctrl-C and SIGTERM end it: what runs is answered, and the exit status is 0. It is 2 when it
    could not start.
    """
    return run("serve", options)
