"""Ctrl-C and SIGTERM: answered at once, and delivered when what must not be cut short is done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

SAVING = "saving after this step; again to stop without saving"
KEPT = "stopping; what is finished is kept, and the same command goes on from there"
SAVING_SOON = "saving after this evaluation; again to stop without saving"
_STOPPING = "stopping; nothing is lost"
_AT_ONCE = "stopping without saving"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 3.0  # seconds that a second signal leaves to the main thread

_promises: list[str] = []  # what happens to a first signal now; the last one holds


@contextmanager
def promising(promise: str) -> Iterator[None]:
    """Let a first Ctrl-C in this context be answered with these words."""
    _promises.append(promise)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if not _voice.is_answering:  # else what was promised is still to be said
            _promises.remove(promise)
        raise
    except BaseException:
        _promises.remove(promise)
        raise
    _promises.remove(promise)


class Answering:
    """Answers signals within a ``with`` block at once, whatever the main thread is busy with.

    A handler of Python's waits until the operation under way is done, which may take as long as a
    step. So a thread of its own waits for the signals, says what will happen, and ends the process
    if the main thread does not obey a second one.

    """

    def __init__(self, *, are_repeated: bool = False) -> None:
        """Prepare to answer.

        Args:
            are_repeated: As in `DeferredSignals`: then only the first one is answered.
        """
        self._are_repeated = are_repeated
        self._pipe: tuple[int, int] | None = None
        self._previous = -1
        self._ended = threading.Event()
        self._count = 0

    def __enter__(self) -> Self:
        """Start to answer, if this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            _promises.clear()
            _voice.is_answering = True
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._previous = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._listen, daemon=True, name="signals")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to answer."""
        if self._pipe is None:
            return
        self._ended.set()
        signal.set_wakeup_fd(self._previous)
        os.write(self._pipe[1], b"\0")  # no signal's number
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():  # else it still says something
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
        elif self._count == 2 and not self._are_repeated:
            if SAVING in _promises:
                _say(_AT_ONCE)
            threading.Thread(target=self._insist, args=[number], daemon=True).start()

    def _insist(self, number: int) -> None:
        """End the process if it does not end by itself: an operation may take minutes more."""
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
    """How answers are given: whether anybody listens for signals, and where lines go."""

    is_answering: bool = False
    say: Callable[[str], None] = _print
    leave: Callable[[], None] = lambda: None


_voice = _Voice()


def answer_by(
    say: Callable[[str], None] | None = None, leave: Callable[[], None] | None = None
) -> None:
    """Set how the person is spoken to, from any thread, and how a terminal is put right."""
    _voice.say = say or _voice.say
    _voice.leave = leave or _voice.leave


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it
        _voice.say(line)


class DeferredSignals:
    """Hold SIGINT and SIGTERM back within a ``with`` block; a second one is delivered at once.

    Signals that are ignored stay ignored, and outside the main thread nothing is held back, since
    signals go elsewhere.

    Attributes:
        number: Number of the signal that is held back, if one is.
    """

    def __init__(
        self, *, are_repeated: bool = False, say: Callable[[str], None] | None = None
    ) -> None:
        """Prepare to hold back.

        Args:
            are_repeated: A second signal may be the first one again, as where ``torchrun`` passes
                on what its processes have got from the terminal as well: it is held back, too.
            say: Tells a person what a first one does, where nobody is `Answering`.
        """
        self._are_repeated = are_repeated
        self._say = say
        self.number: int | None = None
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        """Start to hold back."""
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
        """Deliver what is held back, unless an error is on its way already."""
        if threading.current_thread() is threading.main_thread():
            _promises.remove(SAVING)
        self._restore()
        if kind is None:
            self.deliver()

    def deliver(self) -> None:
        """Call the handler that was installed before; it normally raises."""
        self._restore()
        if self.number is not None:
            number, self.number = self.number, None
            # Raised anew, the signal would be taken for a second one by who answers.
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
