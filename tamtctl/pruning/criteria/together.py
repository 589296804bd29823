"""Which criteria are asked for together: one pass over a text gathers the statistics of them all.

Whoever will ask for several, one after the other, says so beforehand (`asked_together`). Nothing
but time depends on it. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tamtctl.pruning.criteria.table import Criterion, find_criterion

_asked: ContextVar[tuple[Criterion, ...]] = ContextVar("asked", default=())


@contextmanager
def asked_together(names: Iterable[str]) -> Iterator[None]:
    """Let statistics in this context be gathered for criteria of these names, too.

    Raises:
        UsageError: There is no such criterion.
    """
    token = _asked.set(tuple(map(find_criterion, names)))
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> tuple[Criterion, ...]:
    """Return the criteria that are asked for in this context."""
    return _asked.get()
