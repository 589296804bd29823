"""How much memory a piece of work takes at its peak, beside what the process had."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """Fail if the block takes more memory than that at any time."""
    try:
        _RESET.write_text("5")  # the peak starts anew
    except OSError:
        pytest.skip("needs Linux, to measure a peak")
    before = _read("VmRSS")
    yield
    taken = (_read("VmHWM") - before) / 1000
    assert taken <= megabytes, f"took {taken:.0f} MB"


def _read(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    assert found
    return int(found[1])
