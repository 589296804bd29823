"""Reporting the progress of long work to the watcher of a call.

A long loop is wrapped in `counted`, or counts within the context `work`; code that shows progress
listens (`heard_by`). Without a listener nothing is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from tamtctl.foundations.cache import cache_in_use
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.torch_state import usual_torch

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Work(Protocol):
    """Work in progress, as the code that does it sees it."""

    def advance(self, count: int = 1) -> None:
        """Report that so many more units are done."""

    def end(self) -> None:
        """Report that the work has ended, complete or not."""


@runtime_checkable
class Listener(Protocol):
    """Shows work in progress, which may be nested."""

    def begin(self, what: str, total: int | None, done: int, unit: str) -> Work:
        """Show work that begins; the arguments are those of `work`."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: object) -> Iterator[None]:
    """Report work in this context to ``listener``, if it is a `Listener`."""
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
    """Report work in this context; yield a function to call with the number of units just done.

    Args:
        what: A few words about the work, which a count can follow.
        total: Units of the whole work; None if unknown.
        done: Units that are already done.
        unit: The unit: ``B`` for bytes, a word, or empty.
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
    """Yield the items, and report each when it is done."""
    with work(what, total) as advance:
        for item in items:
            yield item
            advance(1)


def watched(default: Callable[[], object]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that reports the work within a function to its ``watcher``.

    It also keeps the cache, which such work uses, from being cleared, and puts the caller's state
    of torch aside.

    Args:
        default: Makes the watcher of a call without one; its ``close`` is called at the end.

    Raises:
        UsageError: The function was given something else for a watcher, or for its configuration.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **options: P.kwargs) -> R:
            _check_config(function, args, options)
            given = options.get("watcher")
            watcher = default() if given is None else _checked(given)
            options["watcher"] = watcher
            try:
                with heard_by(watcher), cache_in_use(), usual_torch():
                    return function(*args, **options)
            finally:
                if given is None and hasattr(watcher, "close"):
                    watcher.close()

        return run

    return decorate


def _check_config(
    function: Callable[..., object], args: Sequence[object], options: Mapping[str, object]
) -> None:
    """Refuse something else for a function's first argument, if that is its ``config``."""
    first, wanted = next(iter(function.__annotations__.items()))
    given = args[0] if args else options.get(first)
    if first == "config" and wanted not in {kind.__name__ for kind in type(given).__mro__}:
        raise UsageError(f"{function.__name__} takes a {wanted}, got {given!r}")


def _checked(watcher: object) -> object:
    """Return a watcher, before a report finds that it is none."""
    methods = (getattr(watcher, name, None) for name in ("status", "note", "plan", "progress"))
    if isinstance(watcher, type) or not all(map(callable, methods)):
        what = f"the class {watcher.__name__}" if isinstance(watcher, type) else repr(watcher)
        raise UsageError(
            f"watcher must be an object with the methods of tamtctl.Silent, got {what}"
        )
    return watcher
