"""The base of the commands that need Detectron2: what a user can mend ends them in one line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

# What images and videos are given by.
GIVEN = "IMAGE|FOLDER|VIDEO|ARCHIVE|URL|KEY=VALUE"
# Of `glipv2_d2.engine.transfer`, which is not imported for a help page.
MODES = ("full", "head", "linear", "prompt", "language")


class PackageCommand(click.Command):
    """A command whose function uses `glipv2_d2`; its result is the exit status.

    See `glipv2_d2.errors.command` for how it ends.
    """

    def invoke(self, context: click.Context) -> Any:
        try:
            from glipv2_d2.errors import command
        except ModuleNotFoundError as error:
            if error.name != "detectron2":
                raise
            raise click.ClickException(str(error)) from None
        return command(super().invoke)(context)


def text_options(function: Callable) -> Callable:
    """The options that `glip ask` and `glip caption` share."""
    for option in reversed(
        (
            click.option("--config-file", required=True, help="path, or name of a shipped config"),
            click.option("--weights", required=True, help=".safetensors or .pth"),
            click.option("--output", help="folder for pictures and the report; default: none"),
            click.option("--json", is_flag=True, help="print the report instead of the texts"),
            click.option("--phrases", default="rules", help='finds phrases: "rules", "spacy", ...'),
            click.option("--threshold", type=float, help="least score of a phrase's box"),
            click.option("--batch-size", type=int, default=1),
            input_options,
            click.option("--device", default="auto", help='"auto", "cpu", "cuda", ...'),
        )
    ):
        function = option(function)
    return function


def input_options(function: Callable) -> Callable:
    """The options of what is read that `glip detect`, `ask` and `caption` share."""
    for option in reversed(
        (
            click.option(
                "--max-pixels", type=click.IntRange(min=1), envvar="GLIP_MAX_PIXELS",
                help="of an image (default: 179 million)",
            ),
            click.option(
                "--every", type=click.IntRange(min=1), default=1, metavar="N",
                help="of a video each N-th frame (default: each)",
            ),
            click.option("--track", is_flag=True, help="number the objects of a video"),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def listed(kind: Callable[[str], Any], *known: Any) -> Callable:
    """A callback: values with commas between them, of those that are known."""

    def parse(_: click.Context, __: click.Parameter, text: str) -> tuple:
        values = []
        for part in filter(None, text.split(",")):
            if known and part not in map(str, known):
                raise click.BadParameter(f"{part!r} is none of {', '.join(map(str, known))}")
            try:
                values.append(kind(part))
            except ValueError:
                raise click.BadParameter(f"{part!r} is no {kind.__name__}") from None
        return tuple(values)

    return parse


def sweep_options(function: Callable) -> Callable:
    """The options that `glip odinw` and `glip few-shot` share."""
    for option in reversed(
        (
            click.argument("opts", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]..."),
            click.option("--config-file", required=True, help="LazyConfig of the model"),
            click.option("--weights", required=True, help="what train.init_checkpoint takes"),
            click.option(
                "--mode", "modes", default="full", callback=listed(str, *MODES),
                help=f"of fine-tuning, one or several: {','.join(MODES)} (default: full)",
            ),
            click.option("--epochs", type=int, default=200, help="of fine-tuning, at most"),
            click.option("--keep-weights", is_flag=True, help="of fine-tuned models"),
            click.option("--num-gpus", type=int, default=1, help="0: CPU"),
            click.option("--num-processes", type=int, default=1, help="on CPU"),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def run(name: str, options: dict[str, Any]) -> int:
    """The exit status of `glipv2_d2.cli.<name>.run`, which takes the options of a command."""
    return import_module(f"glipv2_d2.cli.{name}").run(Namespace(**options))
