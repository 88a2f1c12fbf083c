"""`glip lr-find`: see glipv2_d2/engine/lr_finder.py."""

from __future__ import annotations

from typing import Any

import click

from glip_commands.command import PackageCommand
from glip_commands.train import ADAPTING, CONFIG, TUNE, WHERE, started

_RANGE = [
    click.Option(["--lowest"], type=float, default=1e-7, help="optimizer.lr at the beginning"),
    click.Option(["--highest"], type=float, default=0.1, help="optimizer.lr at the end"),
    click.Option(["--iterations"], type=int, default=100, help="from one to the other"),
]


@click.command(
    "lr-find",
    cls=PackageCommand,
    params=[*CONFIG, *ADAPTING, TUNE, *_RANGE, *WHERE],
    short_help="Find a learning rate by a range test.",
)
def lr_find(**options: Any) -> int:
    """Find a learning rate for a config: train shortly while the rate rises, and look at the loss.

    \b
    glip lr-find --config-file demo/scenes.py --num-gpus 0
    glip lr-find --config-file my_config.py --weights glip_t
    glip lr-find --config-file my_config.py --weights glip_t --mode prompt

    The rates of single parts of the model keep their ratio to optimizer.lr. The curve is left in
    lr_find/ of train.output_dir (lr_find.png, lr_find.csv); weights are read, and none are written.
    KEY=VALUE sets a value of the config.
    """
    from glipv2_d2.engine.lr_finder import main
    from glipv2_d2.engine.training import launch_training

    rest = {"eval": "", "old": [], "resume": False, "eval_only": False}
    return launch_training(started({**options, **rest}), main)
