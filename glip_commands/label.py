"""`glip label`: see glipv2_d2/cli/label.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, model_options, run


@click.command(cls=PackageCommand, short_help="Find boxes for a data set of questions.")
@click.argument("name")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...")
@model_options
@click.option("--output", type=click.Path(path_type=Path), required=True, help="a .json file")
@click.option("--register", metavar="FILE.py", help="run it first: it registers NAME")
@click.option("--threshold", type=float, default=0.5, help="least score of a box (default: 0.5)")
@click.option("--phrases", default="rules", help='finds phrases: "rules", "nltk", "spacy", ...')
@click.option("--batch-size", type=int, default=1, help="images at once")
@click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...')
def label(**options: Any) -> int:
    """Find boxes for the questions of a registered data set, NAME, by a trained model.

    \b
    glip label scenes_val_vqa_grounding --model glip_scenes --output output/labels.json
    glip label vqav2_train --model glip_t \\
        --output datasets/vqav2/train_grounded.json --batch-size 4

    The model reads each question with the answer that most people gave, "what color is the star?
    red", and looks for the noun phrases of both. Boxes of the answer become those of the [MASK] in
    its place: the file is MDETR's json of "what color is the star? [MASK]" with the answers, which
    `register_grounding_dataset` takes. Questions without a box are in it, too: of them nothing is
    known about boxes, and they train the answers alone. KEY=VALUE sets a value of the config.

    Until the file is written the results stand beside it, in NAME.jsonl, a line per image. The same
    command goes on after a run that was killed, and tries the images that failed again.

    The exit status is 0 when every question is in the file, 1 when some could not be used, 2 when
    nothing could be done, 130 when somebody stopped it (Ctrl-C).
    """
    return run("label", options)
