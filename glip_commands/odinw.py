"""`glip odinw`: see glipv2_d2/cli/odinw.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, listed, run, sweep_options


@click.command(cls=PackageCommand, short_help="Evaluate or fine-tune on all of ODinW-13 or -35.")
@sweep_options
@click.option("--suite", type=click.Choice([13, 35]), default=13)
@click.option("--only", default="", callback=listed(str), help="names of data sets: A,B")
@click.option(
    "--shots", default="0", callback=listed(str, "0", 1, 3, 5, 10, "all"),
    help="some of 0,1,3,5,10,all; 0, zero-shot, is the default",
)  # fmt: skip
@click.option(
    "--seeds", default="3,30,300", callback=listed(int, 3, 30, 300),
    help="of the few-shot files; default: 3,30,300",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/odinw"),
              help="default: output/odinw")  # fmt: skip
@click.option(
    "--caption-knowledge/--no-caption-knowledge",
    default=None,
    help="zero-shot with the words around class names of the official 35-set; default: as the "
    "official configs, in the suite of 35 only",
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="go on without data sets that are not on the disk; there is no average then",
)
def odinw(**options: Any) -> int:
    """ODinW-13 or -35: every data set, zero-shot or fine-tuned, ending in the papers' table.

    \b
    glip odinw --model glip_t
    glip odinw ... --suite 35
    glip odinw ... --shots 1,3,5,10,all --num-gpus 4      fine-tuning
    glip odinw ... --shots 0,1,3,5,10,all --mode full,prompt
    glip odinw ... --only Aquarium,pothole evaluation.batch_size=8

    Each run is a `glip train`, whose command is in the run's folder with all that it printed. A
    finished run is not repeated: the same command goes on where it was stopped. Left in the output
    folder: table.md, averages.md (both as .csv, too), averages.png, runs.csv, evalai_*.json, and a
    folder for each setting and data set.

    Fine-tuning follows GLIP's README: 200 epochs at most, batch 4, copies of the data 8, 4, 2, 1
    for 1, 3, 5, 10 shots, AdamW with 1e-4 (language 1e-5) and weight decay 0.05 (--mode prompt:
    0.05 and 0.25), the rate divided by ten and the training ended by the AP on the (few-shot)
    validation file, which also chooses the model; configs/finetune/odinw.py. The few-shot table has
    mean and deviation over seeds.
    """
    return run("odinw", options)
