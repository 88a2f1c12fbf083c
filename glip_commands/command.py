"""The base of the commands that need Detectron2: what a user can mend ends them in one line."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["PackageCommand"]


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
