"""`glip caption`: see glipv2_d2/cli/caption.py."""

from typing import Any

import click

from glip_commands.command import PackageCommand, run, text_options


@click.command(cls=PackageCommand, short_help="Write captions of images and folders.")
@click.argument(
    "given", nargs=-1, required=True, type=click.UNPROCESSED, metavar="IMAGE|FOLDER|URL|KEY=VALUE"
)  # fmt: skip
@text_options
@click.option("--beginning", default="", help="the captions go on from it")
@click.option("--beam-size", type=int, help="1: greedy (default: the model's)")
@click.option("--max-length", type=int, help="tokens written at most (default: the model's)")
@click.option("--top-p", type=float, help="sample from the nucleus of this probability")
@click.option("--seed", type=int, help="of --top-p")
def caption(**options: Any) -> int:
    """Write captions of images and folders, and draw what they speak of.

    \b
    glip caption photo.jpg --output out
    glip caption photo.jpg --config-file my_config.py --weights my.pth --output out

    The model has a caption_head; without one it is the demo's, which knows colored shapes and
    nothing else. Images and KEY=VALUE are as in `glip detect`. Of each noun phrase
    of a caption the best box is shown.

    The captions are printed, an image a line. With --output there are a picture per image, the
    caption below it in the colors of its boxes, and captions.json (which --json prints):

    \b
    {"beginning": ..., "decoding": {"beam_size": ..., ...}, "threshold": ...,
     "config": ..., "weights": ...,
     "images": [{"file": ..., "height": ..., "width": ..., "picture": ...,
                 "detections": 2, "caption": "a red star above a blue ring",
                 "caption_score": -0.21}],
     "detections": [...], "failed": [...], "skipped": [...]}

    "caption_score" is the mean log-probability of the tokens; the rest, how a run that was stopped
    goes on, and the exit status are those of `glip detect`.
    """
    return run("caption", options)
