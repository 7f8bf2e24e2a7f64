"""A click group whose commands are imported when they are asked for, and listed by what they are for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`parts` has a title for some commands each: their names, and `module` or `module:attribute`, which is `command`
    by default.
    """

    def __init__(self, *args: Any, parts: Mapping[str, Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts = parts
        self.commands_at = {name: where for part in parts.values() for name, where in part.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_at)  # in the order of their use, not of the alphabet

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = self.commands_at.get(cmd_name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute or "command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands_at and not args[0].startswith("-"):
            import difflib  # few misspell one

            near = difflib.get_close_matches(args[0], self.commands_at)
            near += [name for name in self.commands_at if name.startswith(args[0]) and name not in near]
            if near:
                ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, part in self.parts.items():
            width = formatter.width - max(map(len, part)) - 6  # the indentation, and what is between the columns
            found = {name: command for name in part if (command := self.get_command(ctx, name)) is not None}
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in found.items()])
