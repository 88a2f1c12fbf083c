"""The `glip` command itself: its subcommands, and how a usage error ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from glip_commands.ask import ask
from glip_commands.caption import caption
from glip_commands.convert import convert
from glip_commands.demo import demo
from glip_commands.detect import detect
from glip_commands.doctor import doctor
from glip_commands.export import export
from glip_commands.few_shot import few_shot
from glip_commands.finetune import finetune
from glip_commands.index import index
from glip_commands.inspect import inspect
from glip_commands.install_detectron2 import main as install
from glip_commands.label import label
from glip_commands.lr_find import lr_find
from glip_commands.merge import merge
from glip_commands.odinw import odinw
from glip_commands.search import search
from glip_commands.serve import serve
from glip_commands.train import evaluate, train


class GroupedCommands(click.Group):
    """The commands under the headings of `SECTIONS`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(str(command.name), command.short_help or "") for command in commands]
                )


@click.group(cls=GroupedCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="glipv2_d2", prog_name="glip")
def glip() -> None:
    """GLIP and GLIPv2: train, evaluate and use language-grounded detectors.

    Completion in bash: eval "$(_GLIP_COMPLETE=bash_source glip)"; zsh_source and fish_source for
    the others. Exit status: 0 done; 1 done in part (each command says what that means); 2 an error
    that you can mend, in one line that begins with "error:"; 130 stopped by Ctrl-C.
    """


@click.command(
    context_settings={"ignore_unknown_options": True}, add_help_option=False,
    short_help="Install Detectron2, without git and without a compiler.",
)  # fmt: skip
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def install_detectron2(arguments: tuple[str, ...]) -> int:
    return install(list(arguments))


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Use a model": (detect, ask, caption, index, search, serve),
    "Train and evaluate": (train, evaluate, finetune, few_shot, odinw, lr_find),
    "Look at data": (inspect, label),
    "Write models": (export, convert, merge),
    "Begin": (demo, doctor, install_detectron2),
}
for _command in (command for commands in SECTIONS.values() for command in commands):
    glip.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `glip`; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # no name of a file may end a run (LC_ALL=C)
            stream.reconfigure(errors="backslashreplace")
    _wait_briefly()
    words = None if arguments is None else [str(word) for word in arguments]
    try:
        return glip.main(words, prog_name="glip", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as help_page:
        click.echo(help_page.format_message())
        return 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        click.echo(f"error: {error.format_message()}{hint}", err=True)
        return 2
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130


def _wait_briefly() -> None:
    """Let threads that wait for each other give up their core early, unless told otherwise.

    Read when torch is imported. GNU's OpenMP waits in a loop of some milliseconds, which on a core
    that is shared keeps away the thread that it waits for: see docs/benchmarks.md.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def renamed() -> int:
    """`glip-detect` and `glip-install-detectron2`, as 0.1 had them; gone in 0.3."""
    old = Path(sys.argv[0]).stem
    new = old.removeprefix("glip-")
    click.echo(f"warning: {old} is called `glip {new}` now; the old name goes with 0.3", err=True)
    return main([new, *sys.argv[1:]])
