"""Ctrl-C and SIGTERM during what must not be cut short: noted now, delivered when it is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class DeferredSignals:
    """Hold SIGINT and SIGTERM back within a ``with`` block; a second one is delivered at once.

    Signals that are ignored stay ignored, and outside the main thread nothing is held back, since
    signals go elsewhere.

    Attributes:
        number: Of the signal that is held back, if one is.
    """

    def __init__(self, *, are_repeated: bool = False) -> None:
        """Prepare to hold back.

        Args:
            are_repeated: A second signal may be the first one again, as where ``torchrun`` passes
                on what its processes have got from the terminal as well: it is held back, too.
        """
        self._are_repeated = are_repeated
        self.number: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        """Start to hold back."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: not installed by Python
                    self._previous[number] = handler
                    signal.signal(number, self._hold)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Deliver what is held back, unless an error is on its way already."""
        self._restore()
        if kind is None:
            self.deliver()

    def deliver(self) -> None:
        """Hand over to who would have had the signal, who most likely raises."""
        self._restore()
        if self.number is not None:
            number, self.number = self.number, None
            signal.raise_signal(number)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        is_second = self.number is not None and not self._are_repeated
        self.number = number
        if is_second:
            self.deliver()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
