"""`glip convert`: see glipv2_d2/cli/convert.py."""

from pathlib import Path
from typing import Any

import click

from glip_commands.command import PackageCommand, run


@click.command(cls=PackageCommand, short_help="Write weights in another form: converted, small.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...")
@click.option("--force", is_flag=True, help="overwrite TARGET")
@click.option("--config-file", help="make a release file of weights of this model")
@click.option(
    "--precision", type=click.Choice(["float16", "float32"]),
    help="of a release file (default: float16)",
)  # fmt: skip
@click.option(
    "--without", multiple=True, metavar="PART",
    help="of a release file: leave this part out, to be trained anew (vqa_head); may be repeated",
)  # fmt: skip
@click.option("--command", default="", help="note in a release file: the command that trained it")
@click.option("--machine", default="", help='note: such as "2 CPU cores" or "one H200"')
@click.option("--hours", type=float, help="note: how long the training took")
@click.option("--seed", type=int, help="note; default: train.seed of the config")
def convert(**options: Any) -> int:
    """Write the weights of SOURCE in another form to TARGET (.safetensors or .pth).

    \b
    glip convert glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.safetensors
    glip convert output/model_final.pth weights/glip_scenes.safetensors \\
        --config-file demo/scenes.py --command "make train-demo" --machine "2 CPU cores"

    Without --config-file: an official GLIP (microsoft/GLIP) under this project's names. The
    official files load as they are, too; converted ones are smaller, since a released file also
    holds the state of its training, and load faster. Printed is what became of every official
    tensor: where it went, or why it is not needed; a tensor that is neither is an error. The result
    is compared with the model of the config that it fits.

    SOURCE may be a name that --model takes elsewhere (glip_t).

    With --config-file: a release file of a training run's checkpoint (or of an official GLIP),
    small and with notes on how it was made. The averaged weights are taken where the checkpoint has
    them, stored as float16, without a frozen language backbone that comes with its own pretrained
    weights. A .pth is for programs that do not read safetensors, such as Detectron2's
    DefaultPredictor. KEY=VALUE sets a value of the config. A training that starts from a file
    without a part (--without vqa_head) begins that part anew.
    """
    return run("convert", options)
