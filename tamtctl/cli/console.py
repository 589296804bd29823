"""What a person or a program sees of plans and results: tables, plain lines, JSON, or little."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from tamtctl.cli.page import Page, PlainTable, opened
from tamtctl.foundations import printable
from tamtctl.foundations.signals import answer_by

__all__ = ["Output", "Page", "PlainTable"]


class Output(Page):
    """What a command says: results on stdout; notes and progress on stderr, in every mode.

    Args:
        as_json: Print one JSON object on stdout; the result for people goes to stderr, too.
        quiet: Print nothing but the result's essence.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        notes = Page(opened(sys.stderr), quiet=quiet)
        super().__init__(opened(sys.stderr if as_json else sys.stdout), quiet=quiet)
        self.as_json, self.notes = as_json, notes
        answer_by(notes.line if not quiet else None)

    def note(self, text: str) -> None:
        """Say a line that is no line of the result."""
        self.notes.line(text)

    def result(self, value: Mapping[str, Any], essence: str) -> None:
        """Print the JSON object, or in quiet mode the one line that a script wants."""
        if self.as_json:
            text = json.dumps(_without_nan(value), indent=2, allow_nan=False)
            print(text)  # noqa: T201, stdout is the interface here
        elif self.quiet:
            print("\n".join(map(printable.line, essence.split("\n"))))  # noqa: T201


def _without_nan(value: Any) -> Any:
    """Return JSON values with null for what is no finite number, for which JSON has no name."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
