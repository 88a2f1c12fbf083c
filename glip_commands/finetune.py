"""`glip finetune`: see glipv2_d2/cli/finetune.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import MODES, PackageCommand, model_options, run


@click.command(cls=PackageCommand, short_help="Adapt a model to one's own classes.")
@click.argument("opts", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...")
@click.option("--train", required=True, help="annotations, or a folder or yaml that has them")
@click.option("--images", help="their image folder; default: where they say it is, or beside them")
@click.option("--val", help="validate on them; default: a fifth of the images is split off")
@click.option("--val-images", help="their image folder; default: --images")
@click.option("--format", default="auto", help="of the annotations: coco, voc, yolo, ...")
@model_options
@click.option("--mode", type=click.Choice(MODES), default="full", help="what is trained")
@click.option(
    "--old", multiple=True, metavar="NAME",
    help="data set of classes that the base knows, to see what is forgotten; default: the test set "
    "of the config, where it is on the disk; none: none",
)  # fmt: skip
@click.option(
    "--replay", multiple=True, metavar="NAME",
    help="data set that is trained on beside one's own; default: those of the config, where they "
    "are on the disk; none: none",
)  # fmt: skip
@click.option(
    "--register", multiple=True, metavar="FILE.py", help="run it first: it registers such a NAME"
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output/finetune"))
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="for the training")
@click.option("--max-iter", type=click.IntRange(min=1), help="iterations, in place of --minutes")
@click.option("--seed", type=int, default=0, help="of what is split off")
@click.option("--check", is_flag=True, help="look at the data and plan, and stop there")
@click.option("--num-gpus", type=click.IntRange(min=0), help="0: CPU; default: 1, if there is one")
@click.option("--num-processes", type=click.IntRange(min=1), default=1, help="on CPU")
def finetune(**options: Any) -> int:
    """Adapt a model to one's own classes: look at the data, plan, train, report.

    \b
    glip finetune --train birds.json --images birds/ --model glip_t
    glip finetune --train voc_folder --weights my.safetensors \\
        --config-file pretrain/glip_t.py --mode prompt --check
    glip finetune ... --minutes 20 optimizer.lr=5e-5

    --mode full trains the whole model; head its neck and head; linear the last projections; prompt
    the embedding of the prompt alone, whose result is a file of kilobytes for the same base;
    language the language backbone.

    Left in the output folder: report.md with its pictures, report.json, the result
    (model.safetensors or prompt.safetensors), and config.py, which has every choice with its
    reason: `glip train` takes it. Ctrl-C ends the training, and the report is of the best model so
    far; the same command goes on where it was stopped. The exit status is 130 then.
    """
    return run("finetune", {**options, "opts": list(options["opts"])})
