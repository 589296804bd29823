"""Ctrl-C and SIGTERM: a message at once, and the interruption after work that must be completed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Self

SAVING = "saving after this step; again to stop without saving"
KEPT = "stopping; what is finished is kept, and the same command goes on from there"
SAVING_SOON = "saving after this evaluation; again to stop without saving"
_STOPPING = "stopping; nothing is lost"
_AT_ONCE = "stopping without saving"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 3.0  # seconds that the main thread gets to end after a second signal

_promises: list[str] = []  # messages about the effect of a first signal; the last one is valid


@contextmanager
def promising(promise: str) -> Iterator[None]:
    """Within this context, answer a first Ctrl-C with this message."""
    _promises.append(promise)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if not _voice.is_answering:  # else the listening thread still has to print the message
            _promises.remove(promise)
        raise
    except BaseException:
        _promises.remove(promise)
        raise
    _promises.remove(promise)


class Answering:
    """Prints a message at once when a signal comes within a ``with`` block.

    A Python signal handler waits until the current operation is done, which may take as long as a
    step. So a separate thread waits for signals, prints what will happen, and ends the process if
    the main thread does not react to a second one.

    """

    def __init__(self, *, are_repeated: bool = False) -> None:
        """Prepare to answer.

        Args:
            are_repeated: As in `DeferredSignals`; then only the first signal is answered.
        """
        self._are_repeated = are_repeated
        self._pipe: tuple[int, int] | None = None
        self._previous = -1
        self._ended = threading.Event()
        self._count = 0

    def __enter__(self) -> Self:
        """Start answering, if this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            _promises.clear()
            _voice.is_answering = True
            _voice.has_answered.clear()
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._previous = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._listen, daemon=True, name="signals")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop answering."""
        if self._pipe is None:
            return
        self._ended.set()
        signal.set_wakeup_fd(self._previous)
        os.write(self._pipe[1], b"\0")  # ends the thread: 0 is no signal
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():  # else it is still printing
            for end in self._pipe:
                os.close(end)
        self._pipe = None
        _voice.is_answering = False

    def _listen(self) -> None:
        assert self._pipe
        end = self._pipe[0]
        while number := os.read(end, 1)[0]:
            if number in _SIGNALS:
                self._count += 1
                self._answer(number)

    def _answer(self, number: int) -> None:
        if self._count == 1:
            promise = _promises[-1] if _promises else _STOPPING
            _say(promise.partition(";")[0] if number == signal.SIGTERM else promise)
            _voice.has_answered.set()
        elif self._count == 2 and not self._are_repeated:
            if SAVING in _promises:
                _say(_AT_ONCE)
            threading.Thread(target=self._insist, args=[number], daemon=True).start()

    def _insist(self, number: int) -> None:
        """End the process if it does not end by itself, since an operation may take minutes."""
        if not self._ended.wait(_PATIENCE):
            _voice.leave()
            os.write(2, b"error: " + _WORDS[number] + b"\n")
            os._exit(128 + number)


_WORDS: dict[int, bytes] = {signal.SIGINT: b"interrupted", signal.SIGTERM: b"terminated"}


def _print(line: str) -> None:
    if sys.stderr:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


@dataclass
class _Voice:
    """How messages are shown: whether a thread answers signals, and has, and where lines go."""

    is_answering: bool = False
    has_answered: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], None] = _print
    leave: Callable[[], None] = lambda: None


_voice = _Voice()


def answer_by(
    say: Callable[[str], None] | None = None, leave: Callable[[], None] | None = None
) -> None:
    """Set the functions that print a line, from any thread, and that restore the terminal."""
    _voice.say = say or _voice.say
    _voice.leave = leave or _voice.leave


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # standard error is closed
        _voice.say(line)


class DeferredSignals:
    """Defer SIGINT and SIGTERM within a ``with`` block; a second signal is delivered at once.

    Ignored signals stay ignored. Outside the main thread nothing is deferred, since it gets no
    signals.

    Attributes:
        number: Number of the deferred signal; None if there is none.
    """

    def __init__(
        self, *, are_repeated: bool = False, say: Callable[[str], None] | None = None
    ) -> None:
        """Prepare to defer signals.

        Args:
            are_repeated: Whether a second signal may be a copy of the first, as ``torchrun`` passes
                on signals that its processes also get from the terminal. It is then deferred, too.
            say: Prints the effect of a first signal, unless a thread is `Answering`.
        """
        self._are_repeated = are_repeated
        self._say = say
        self.number: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        """Start deferring."""
        if threading.current_thread() is threading.main_thread():
            _promises.append(SAVING)
            for number in _SIGNALS:
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
        """Deliver the deferred signal, unless the block ended with an error."""
        if threading.current_thread() is threading.main_thread():
            _promises.remove(SAVING)
        self._restore()
        if kind is None:
            self.deliver()

    def is_asked_to_stop(self) -> bool:
        """Return whether a signal has come; what it does has then been said."""
        if self.number is None:
            return False
        if _voice.is_answering:  # by a thread, which would find another promise later
            _voice.has_answered.wait(_PATIENCE)
        return True

    def deliver(self) -> None:
        """Call the previous handler with the deferred signal; it normally raises."""
        self._restore()
        if self.number is not None:
            number, self.number = self.number, None
            # Raising it again would look like a second signal to `Answering`.
            handler = signal.getsignal(number)
            if callable(handler):
                handler(number, None)
            else:
                signal.raise_signal(number)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        is_first, self.number = self.number is None, number
        is_second = not (is_first or self._are_repeated)
        if is_first and self._say and not _voice.is_answering:
            self._say(_promises[-1])
        if is_second:
            self.deliver()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
