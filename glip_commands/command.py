"""The base of the commands that need Detectron2: what a user can mend ends them in one line."""

from __future__ import annotations

import gc
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

# What images and videos are given by.
GIVEN = "IMAGE|FOLDER|VIDEO|ARCHIVE|URL|KEY=VALUE"
# Of `glipv2_d2.engine.transfer`, which is not imported for a help page.
MODES = ("full", "head", "linear", "prompt", "language")
# Of `glipv2_d2.model_zoo`.
MODELS = (
    "glip_t_a", "glip_t_b", "glip_t_c", "glip_t", "glip_t_lvis_best", "glip_l",
    "glip_scenes", "glipv2_scenes",
)  # fmt: skip
# It is here, and all tasks are in it.
DEFAULT_MODEL = "glipv2_scenes"


def completing(*names: str, files: bool = False) -> Callable:
    """A `shell_complete`: names, and files of one's own."""

    def complete(_: click.Context, __: click.Parameter, start: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names if name.startswith(start)]
        # The shell looks for files where no name fits.
        return [CompletionItem(start, type="file"), *found] if files else found

    return complete


def _shipped_configs() -> list[str]:
    """As `glipv2_d2.config.resolve_config` finds them, in a clone or an installed package."""
    here = Path(__file__).resolve().parents[1]
    folder = next((f for f in (here / "glipv2_d2/configs", here / "configs") if f.is_dir()), here)
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    return sorted(name for name in names if not name.startswith("common/"))


def complete_config(context: click.Context, option: click.Parameter, start: str) -> list:
    """A `shell_complete`: names of shipped configs, and files of one's own."""
    return completing(*_shipped_configs(), files=True)(context, option, start)


# Which model a command uses; see `glipv2_d2.model_zoo.find_model`.
_MODEL: dict[str, dict[str, Any]] = {
    "--model": {
        "default": "", "metavar": "NAME", "shell_complete": completing(*MODELS),
        "help": f"config and weights by a name: {', '.join(MODELS)}",
    },
    "--config-file": {
        "default": "", "metavar": "FILE", "shell_complete": complete_config,
        "help": "LazyConfig: path, or name of a shipped one (default: what the weights say)",
    },
    "--weights": {
        "default": "", "metavar": "FILE", "shell_complete": completing(*MODELS, files=True),
        "help": ".safetensors or .pth, official GLIP too, or a name as of --model",
    },
}  # fmt: skip
MODEL = [click.Option([name], **settings) for name, settings in _MODEL.items()]


class PackageCommand(click.Command):
    """A command whose function uses `glipv2_d2`; its result is the exit status.

    See `glipv2_d2.errors.command` for how it ends.
    """

    def invoke(self, context: click.Context) -> Any:
        imported = "glipv2_d2" in sys.modules
        try:
            from glipv2_d2.errors import command
        except ModuleNotFoundError as error:
            if error.name != "detectron2":
                raise
            raise click.ClickException(str(error)) from None
        if not imported:
            # Modules stay: the collector need not look through them, for a second at the end alone.
            # Only here, where nothing else is there yet: what is frozen is never collected, and a
            # file in a cycle not written to its end.
            gc.freeze()
        return command(super().invoke)(context)


def model_options(
    function: Callable[..., int] | None = None, *, default: str = "", exports: bool = False
) -> Callable:
    """The options `--model`, `--config-file` and `--weights`: the command gets the last two, found.

    Args:
        function: what the command does.
        default: the model where none of the options is given; empty: they must be.
        exports: the weights may be an export.
    """
    if function is None:
        return lambda function: model_options(function, default=default, exports=exports)

    @wraps(function)
    def with_model(model: str, config_file: str, weights: str, **options: Any) -> int:
        from glipv2_d2.model_zoo import find_model

        if default and not (model or config_file or weights):
            model = default
            click.echo(f"model: {model}, of the demo; --model NAME gives another", err=True)
        found = find_model(model, config_file, weights, exports=exports)
        return function(config_file=found.config, weights=found.weights, **options)

    decorated: Callable = with_model
    for name, settings in reversed(_MODEL.items()):
        decorated = click.option(name, **settings)(decorated)
    return decorated


def text_options(function: Callable) -> Callable:
    """The options that `glip ask` and `glip caption` share."""
    for option in reversed(
        (
            model_options(default=DEFAULT_MODEL, exports=True),
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
    """A callback: values with commas between them, of those that are known, each once."""

    def parse(_: click.Context, __: click.Parameter, text: str) -> tuple:
        values = []
        for part in filter(None, map(str.strip, text.split(","))):
            if known and part not in map(str, known):
                raise click.BadParameter(f"{part!r} is none of {', '.join(map(str, known))}")
            try:
                values.append(kind(part))
            except ValueError:
                raise click.BadParameter(f"{part!r} is no {kind.__name__}") from None
        return tuple(dict.fromkeys(values))

    return parse


def sweep_options(function: Callable) -> Callable:
    """The options that `glip odinw` and `glip few-shot` share."""
    for option in reversed(
        (
            click.argument("opts", nargs=-1, type=click.UNPROCESSED, metavar="[KEY=VALUE]..."),
            model_options,
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
