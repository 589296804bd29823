"""Criteria that will be asked for together: one pass over a text gathers all their statistics.

A caller that needs several, one after the other, announces them with `asked_together`. That saves
time and changes no result. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tamtctl.pruning.criteria.table import Criterion, find_criterion

_asked: ContextVar[tuple[Criterion, ...]] = ContextVar("asked", default=())


@contextmanager
def asked_together(names: Iterable[str]) -> Iterator[None]:
    """Within this context, also gather the statistics that the criteria of these names need.

    Raises:
        UsageError: There is no such criterion.
    """
    token = _asked.set(tuple(map(find_criterion, names)))
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> tuple[Criterion, ...]:
    """Return the criteria that `asked_together` announced in this context."""
    return _asked.get()
