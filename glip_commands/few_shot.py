"""`glip few-shot`: see glipv2_d2/cli/few_shot.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, listed, run, sweep_options


def shots(text: str) -> str:
    """Images of each class: `"0"`, `"1"`, ... or `"all"`."""
    if text != "all" and int(text) < 0:
        raise ValueError
    return text


@click.command(
    "few-shot",
    cls=PackageCommand,
    short_help="Fine-tune on few images of each class, several times.",
)
@sweep_options
@click.option(
    "--data", nargs=4, multiple=True, required=True, metavar="NAME TRAIN VAL TEST",
    help="a task and its data sets: registered names, or files and folders in any format that "
    "`glip inspect` reads; several tasks are averaged",
)  # fmt: skip
@click.option("--images", metavar="DIR", help="of the files of --data; default: beside them")
@click.option("--register", metavar="FILE.py", multiple=True,
              help="run it first: it registers data sets")  # fmt: skip
@click.option("--shots", default="0,1,3,5,10", callback=listed(shots),
              help="images of each class, or all; default: 0,1,3,5,10")  # fmt: skip
@click.option("--seeds", default="3,30,300", callback=listed(int),
              help="of the images that are drawn; default: 3,30,300")  # fmt: skip
@click.option("--old", metavar="NAME,...", default="", callback=listed(str),
              help="data sets to evaluate on, too: what the model could do before")  # fmt: skip
@click.option("--metric", type=click.Choice(["AP", "AP50", "AP75"]), default="AP",
              help="of the tables; the files of the runs have all")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/few_shot"),
              help="default: output/few_shot")  # fmt: skip
@click.option("--only-files", is_flag=True, help="write the subsets, show the runs, and stop")
def few_shot(**options: Any) -> int:
    """Fine-tune on few images of each class, several times, ending in the papers' tables.

    \b
    glip few-shot --model glip_t \\
        --data pets pets/train.json pets/val.json pets/test.json --images pets/images
    glip few-shot ... --data pets pets_train pets_val pets_test --register my_sets.py \\
        --shots 0,1,3,10,all --mode full,prompt --old coco_2017_val

    The subsets are drawn as GLIP's: so many images of each class, of the training set and of the
    validation set, which chooses the model; data/NAME/fewshot_train_shot3_seed30.json and so on in
    the output folder. Runs, and what is left of them, are as those of `glip odinw`, by the same
    rules: a finished run is not repeated, and the same command goes on where it was stopped.

    Left are table.md (each data set: mean and deviation over the seeds), averages.md (by the number
    of shots), both as .csv, too, averages.png and runs.csv. With --old every model is evaluated on
    these data sets as well, which shows what it forgets.
    """
    return run("few_shot", options)
