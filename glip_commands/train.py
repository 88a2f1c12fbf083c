"""`glip train` and `glip eval`: see glipv2_d2/engine/training.py."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import click

from glip_commands.command import MODEL, MODES, PackageCommand, complete_config, listed

# Those of Detectron2's `default_argument_parser`, recipes, and several processes on CPU.
CONFIG = [
    click.Argument(
        ["opts"], nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]...",
        callback=lambda _, __, words: list(words),
    ),
    *MODEL,
]  # fmt: skip
ADAPTING = [
    click.Option(
        ["--register"], metavar="FILE.py", multiple=True,
        help="run it first: it registers data sets",
    ),
    click.Option(
        ["--mode"], type=click.Choice(MODES),
        help="what of the model is trained, see glipv2_d2.engine.transfer.set_mode (default: what "
        "the config says); in an evaluation, what was",
    ),
]  # fmt: skip
TUNE = click.Option(
    ["--tune"], metavar="FILE", default="", shell_complete=complete_config,
    help="fine-tune by this recipe, e.g. configs/finetune/odinw.py",
)  # fmt: skip
_EVALUATION = [
    click.Option(
        ["--eval"], metavar="FILE", default="", shell_complete=complete_config,
        help="evaluate by this recipe, e.g. configs/eval/lvis_minival.py, in place of the "
        "config's test sets; in training too (train.eval_period)",
    ),
    click.Option(
        ["--old"], metavar="NAME,...", default="", callback=listed(str),
        help="data sets to evaluate on beside these: what the model could do before",
    ),
]  # fmt: skip
_TRAINING = [
    click.Option(["--resume"], is_flag=True, help="go on from the newest checkpoint of the run"),
    click.Option(["--eval-only"], is_flag=True, help="no training: what `glip eval` does"),
]  # fmt: skip
WHERE = [
    click.Option(["--num-gpus"], type=int, default=1, help="per machine; 0: CPU (default: 1)"),
    click.Option(["--num-machines"], type=int, default=1, help="total number of machines"),
    click.Option(["--machine-rank"], type=int, default=0, help="of this machine; unique"),
    # Detectron2's default is a fixed port of this machine: two runs would collide, and two machines
    # would wait for each other in vain.
    click.Option(
        ["--dist-url"], default="auto",
        help='where processes meet; "auto" finds a free port, on one machine (default: auto)',
    ),
    click.Option(
        ["--num-processes"], type=int, default=1,
        help="per machine on CPU, joined over gloo; needs --num-gpus 0",
    ),
]  # fmt: skip


@click.command(
    cls=PackageCommand,
    params=[*CONFIG, *ADAPTING, *_EVALUATION, TUNE, *_TRAINING, *WHERE],
    short_help="Train a model that a LazyConfig describes.",
)
def train(**options: Any) -> int:
    """Train a model that a LazyConfig describes.

    \b
    glip train --config-file demo/scenes.py --num-gpus 0 train.max_iter=100
    glip train --config-file demo/scenes.py --num-gpus 0 --resume
    glip train --config-file pretrain/glip_t.py --num-gpus 8
    glip train --config-file my_config.py --weights glip_t --num-gpus 8

    --weights is the start, train.init_checkpoint; --model NAME goes on from that model by its own
    config.

    This is Detectron2's tools/lazyconfig_train_net.py plus: a moving average of the weights,
    clipping of the full gradient, mixed precision on CPU too, several test sets, several CPU
    processes (--num-gpus 0 --num-processes 2), recipes that are added to a config (--eval, --tune;
    see docs/evaluation.md), modes of transfer (--mode), early ends, and a checkpointer that refuses
    weights of another model.
    In a clone, `python train_net.py` is the same. KEY=VALUE sets a value of the config.
    """
    from glipv2_d2.engine.training import launch_training

    return launch_training(started(options))


@click.command(
    "eval",
    cls=PackageCommand,
    params=[*CONFIG, *ADAPTING, *_EVALUATION, *WHERE],
    short_help="Evaluate a model on its test sets.",
)
def evaluate(**options: Any) -> int:
    """Evaluate the weights of a model on the test sets of its config, or by a recipe.

    \b
    glip eval --model glip_scenes --num-gpus 0
    glip eval --model glip_t --eval configs/eval/coco.py
    glip eval --config-file my_config.py --weights output/model_final.pth

    The tables are printed and left in train.output_dir. KEY=VALUE sets a value of the config.
    """
    from glipv2_d2.engine.training import launch_training

    return launch_training(started({**options, "tune": "", "resume": False, "eval_only": True}))


def started(options: dict[str, Any]) -> Namespace:
    """The options of `glip train` as `launch_training` takes them: `--model` and `--weights` are
    the config and its `train.init_checkpoint`."""
    model, weights = options.pop("model"), options.pop("weights")
    if model or weights:
        from glipv2_d2.model_zoo import find_model

        options["config_file"], start = find_model(
            model, options["config_file"], weights, exports=options["eval_only"]
        )
        options["opts"].append(f"train.init_checkpoint={start}")
    return Namespace(**options)


def parse(arguments: Sequence[str]) -> Namespace:
    """The arguments of `glip train`, as `glipv2_d2.engine.training.main` takes them."""
    return started(train.make_context("glip train", list(arguments)).params)
