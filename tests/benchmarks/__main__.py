"""``python -m tests.benchmarks NAME``: run a benchmark, which prints its table.

A benchmark is a module beside this one with a function ``main`` that measures, prints, and returns
whether its goals are met.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tamtctl.foundations.errors import TamtctlError


def main() -> None:
    """Run the benchmark that is named first on the command line; it sees the other arguments."""
    names = sorted(f.stem for f in Path(__file__).parent.glob("*.py") if not f.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python -m tests.benchmarks {{{','.join(names)}}} [options]")
    name = sys.argv.pop(1)
    try:
        sys.exit(0 if importlib.import_module(f"{__package__}.{name}").main() else 1)
    except TamtctlError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
