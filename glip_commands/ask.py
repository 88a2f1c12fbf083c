"""`glip ask`: see glipv2_d2/cli/ask.py."""

from typing import Any

import click

from glip_commands.command import GIVEN, PackageCommand, run, text_options


@click.command(cls=PackageCommand, short_help="Answer a question about images and folders.")
@click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar=GIVEN)
@click.argument("question", type=click.UNPROCESSED)
@text_options
def ask(**options: Any) -> int:
    """Answer a question about images and folders, and draw what it speaks of.

    \b
    glip ask photo.jpg "what color is the star?" --output out
    glip ask photo.jpg "what color is the car?" --config-file my_config.py \\
        --weights my.safetensors --output out

    The model has a vqa_head; without one it is the demo's, which knows colored shapes and nothing
    else. The question comes last; images, videos and KEY=VALUE are as in `glip detect`.
    What the question speaks of stands in [brackets], "what color is the [star]?", or else its noun
    phrases are found. Of each the best box is shown, and of the answer, where the model was trained
    to ground it.

    The answers are printed, an image a line. With --output there are a picture per image, the
    question and its answer below it in the colors of their boxes, and answers.json (which --json
    prints):

    \b
    {"question": ..., "threshold": ..., "config": ..., "weights": ...,
     "images": [{"file": ..., "height": ..., "width": ..., "picture": ...,
                 "detections": 2, "answer": "red",
                 "answers": [["red", 0.97], ...]}],
     "detections": [...], "failed": [...], "skipped": [...]}

    "answers" are the best five with their probabilities; the rest, how a run that was stopped goes
    on, and the exit status are those of `glip detect`.
    """
    return run("ask", options)
