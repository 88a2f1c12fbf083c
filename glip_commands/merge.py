"""`glip merge`: see glipv2_d2/cli/merge.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, listed, run


@click.command(cls=PackageCommand, short_help="Weights between a base and what was tuned from it.")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("tuned", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("opts", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...",
                callback=lambda _, __, words: list(words))  # fmt: skip
@click.option(
    "--alpha",
    default="",
    callback=listed(float),
    help="0: the base, 1: the tuned model; with --curve several (default: 0,0.25,0.5,0.75,1)",
)
@click.option(
    "--only",
    metavar="PART,...",
    default="",
    callback=listed(str),
    help="parts of the model, such as neck.blocks.0.dynamic_conv; all others stay TUNED's",
)
@click.option("--curve", is_flag=True, help="evaluate at every --alpha; OUTPUT is a folder")
@click.option("--config-file", default="", help="of the model; needed by --curve")
@click.option(
    "--eval",
    default="",
    metavar="FILE",
    help="--curve: evaluate by this recipe in place of the config's test sets",
)
@click.option(
    "--old",
    metavar="NAME,...",
    default="",
    callback=listed(str),
    help="--curve: data sets to evaluate on beside these: what the base could do",
)
@click.option(
    "--register",
    metavar="FILE.py",
    multiple=True,
    help="--curve: run it first: it registers data sets",
)
@click.option(
    "--metric", help="--curve: of the table and the picture (default: bbox/AP); AP50 is bbox/AP50"
)
@click.option("--force", is_flag=True, help="overwrite OUTPUT")
@click.option("--num-gpus", type=click.IntRange(0, 1), default=1, help="--curve: 0: CPU")
def merge(**options: Any) -> int:
    """Write the weights (1 - alpha) BASE + alpha TUNED to OUTPUT (.safetensors or .pth).

    \b
    glip merge glip_t output/tuned.safetensors merged.safetensors --alpha 0.5
    glip merge glip_t output/tuned.safetensors output/curve --curve --old coco_2017_val

    Fine-tuning forgets what a model could do; on the line between both models (WiSE-FT, Wortsman et
    al., CVPR 2022) much of the new stays and less of the old is lost. TUNED must come from BASE,
    which may be a name that --model takes elsewhere (glip_t). Parts forget differently: --only
    merges some of them.
    With --config-file both files may be of any kind that loads into the model, an official GLIP for
    instance, or a release file without its frozen language backbone.

    --curve evaluates each alpha on the config's test sets, and on those of --old: curve.md,
    curve.csv and curve.png in the folder OUTPUT. KEY=VALUE sets a value of the config.
    """
    return run("merge", options)
