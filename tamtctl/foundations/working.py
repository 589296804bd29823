"""Progress of long work, told to whoever watches the call.

Whoever loops over much wraps the loop in `counted`, or counts in the context of `work`; whoever
shows progress listens (`heard_by`). Without a listener nothing is told and nothing is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from tamtctl.foundations.cache import cache_in_use

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Work(Protocol):
    """Work that is under way, seen from whoever does it."""

    def advance(self, count: int = 1) -> None:
        """Tell that so many more units are done."""

    def end(self) -> None:
        """Tell that the work is over, done or not."""


@runtime_checkable
class Listener(Protocol):
    """Who shows work that is under way; works may lie within each other."""

    def begin(self, what: str, total: int | None, done: int, unit: str) -> Work:
        """Be told that work begins; see `work`."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: object) -> Iterator[None]:
    """Let work in this context be heard, if ``listener`` is a `Listener`."""
    if not isinstance(listener, Listener):
        yield
        return
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def work(
    what: str, total: int | None = None, *, done: int = 0, unit: str = ""
) -> Iterator[Callable[[int], None]]:
    """Tell of work in this context; yields what is to be called with the units just done.

    Args:
        what: A few words that a count can follow.
        total: Units of the whole; None if that is not known.
        done: Units that were done before.
        unit: What is counted: ``B`` for bytes, else a word, or nothing.
    """
    listener = _listener.get()
    if listener is None:
        yield lambda count: None
        return
    told = listener.begin(what, total, done, unit)
    try:
        yield told.advance
    finally:
        told.end()


def counted(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, and tell after each that it is done."""
    with work(what, total) as advance:
        for item in items:
            yield item
            advance(1)


def watched(default: Callable[[], object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator: the ``watcher`` of a function hears of the work within.

    Meanwhile nobody clears the cache, which all such work uses.

    Args:
        default: Makes the watcher of a call that has none; its ``close`` is called at the end.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **options: P.kwargs) -> R:
            given = options.get("watcher")
            watcher = default() if given is None else given
            options["watcher"] = watcher
            try:
                with heard_by(watcher), cache_in_use():
                    return function(*args, **options)
            finally:
                if given is None and hasattr(watcher, "close"):
                    watcher.close()

        return run

    return decorate
