"""Results that show themselves at a prompt and in a notebook as the command line prints them.

The command line's views, in a wing above, format every result. They are imported by name when a
result is shown, so that a program that shows nothing does not load them.
"""

from __future__ import annotations

import importlib
import random
from typing import Any

_VIEWS = "tamtctl.cli.notebook"


class Shown:
    """A result that shows itself at a prompt and in a notebook."""

    def __repr__(self) -> str:
        """Return the text for a prompt, of one screen at most."""
        return str(_views().as_text(self))

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook."""
        return str(_views().as_html(self))


def _views() -> Any:
    state = random.getstate()
    try:
        return importlib.import_module(_VIEWS)
    finally:
        random.setstate(state)  # rich draws numbers as it is imported
