"""Numbers on the command line, refused in words of people's."""

from __future__ import annotations

import math
from typing import Any

import click


class Whole(click.IntRange):
    name = "whole number"


class Seconds(click.FloatRange):
    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):  # `nan` is in every range
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return found
