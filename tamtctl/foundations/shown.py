"""Results that say at a prompt and in a notebook what the command line prints of them.

How a result looks is the business of the command line's views, which stand above every result. So
they are asked for by name when something is shown: a program that shows nothing loads none of them.
"""

from __future__ import annotations

import importlib
from typing import Any

_VIEWS = "tamtctl.cli.notebook"


class Shown:
    """A result with one way to look, for a prompt and for a notebook."""

    def __repr__(self) -> str:
        """Return a text of one screen."""
        return str(_views().as_text(self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return str(_views().as_html(self))


def _views() -> Any:
    return importlib.import_module(_VIEWS)
