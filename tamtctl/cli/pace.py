"""How long work will still take, told by how long it took so far."""

from __future__ import annotations

import time

_DAY = 24 * 3600


class Pace:
    """The pace of counted work.

    The first unit is left out, as it includes warm-up, filling of caches and compilation.

    Attributes:
        done: Units that are done.
        total: Units in all; None if that is not known.
    """

    def __init__(self, total: int | None, done: int = 0) -> None:
        """Begin to count; ``done`` units were done before."""
        self.total, self.done = total, done
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def advance(self, count: int, now: float | None = None) -> None:
        """Count units that are done at a time of the monotonic clock, by default now."""
        self.done += count
        self._last = (time.monotonic() if now is None else now), self.done
        self._first = self._first or self._last

    def seconds_left(self, now: float | None = None) -> float | None:
        """Return the seconds that are left, None before that can be told."""
        if self.total is None or self._first is None or self._last is None:
            return None
        (started, before), (seen, done) = self._first, self._last
        if done <= before or seen <= started:
            return None
        now = time.monotonic() if now is None else now
        left = max(0, self.total - done) * (seen - started) / (done - before)
        return max(0.0, left - (now - seen))


def duration(seconds: float) -> str:
    """Return a duration in words, such as 41 s."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 4 * _DAY:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / _DAY:.0f} days"
