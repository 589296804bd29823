"""Progress on a page: bars on a terminal, a line every ten seconds elsewhere, never silence."""

from __future__ import annotations

import os
import sys
import threading
import time

from rich.console import RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from tamtctl.cli.console import Page
from tamtctl.cli.pace import Pace, duration
from tamtctl.foundations import printable

SILENCE = 10.0  # seconds without a line, after which another one is shown
_AT_ONCE = 0.3  # seconds; work that ends sooner gets no bar
_TICK = 0.25


class Display:
    """Shows what is being done, and how far it is.

    A thread in the background draws the bars, or writes a line after ten seconds of silence.
    """

    def __init__(self, page: Page) -> None:
        """Show on a page: with bars if its stream is an interactive terminal, else in lines."""
        self.page = page
        self._has_bars = page.console.is_interactive and page.console.file.isatty()
        self._lock = threading.RLock()
        self._works: list[_Work] = []
        self._bars: Progress | None = None
        self._status: tuple[str, float] | None = None
        self._spoken = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def status(self, message: str, *, is_shown: bool = True) -> None:
        """Say what is being done now; with ``is_shown=False``, only if it takes long."""
        with self._lock:
            self._status = message, time.monotonic()
            if is_shown:
                self.page.dimmed(f"{message} …")
            self._has_spoken()

    def line(self, text: str) -> None:
        """Say a line, above the bars if there are some."""
        with self._lock:
            self.page.line(text)
            self._has_spoken()

    def begin(self, what: str, total: int | None, done: int, unit: str) -> _Work:
        """Show work that begins."""
        with self._lock:
            work = _Work(self, what, Pace(total, done), unit)
            self._works.append(work)
            self._watch()
            return work

    def describe(self, text: str) -> None:
        """Set the text beside the outermost work: its loss, its speed."""
        with self._lock:
            if self._works:
                self._works[0].text = text

    def say_where(self, *, in_bars: bool = True) -> None:
        """Say in a line how far the work is.

        Args:
            in_bars: Say it also where bars show it.
        """
        with self._lock:
            if self._works and (in_bars or not self._has_bars):
                self._works[0].is_told = True
                self.line("; ".join(work.line for work in self._works))

    @property
    def is_due(self) -> bool:
        """Whether a line is due where there are no bars: the first of a work, then by the clock."""
        is_first = any(not work.is_told for work in self._works[:1])
        return not self._has_bars and (is_first or time.monotonic() - self._spoken >= SILENCE)

    def close(self) -> None:
        """Leave the terminal as it was; also after an error."""
        self._ended.set()
        with self._lock:
            for work in reversed([*self._works]):
                work.end()
            if self._bars:
                self._bars.stop()
                self._bars = None

    def show_cursor(self) -> None:
        """Show the cursor again; takes no lock, so that a signal handler may call it."""
        if self._bars:
            os.write(self.page.console.file.fileno(), b"\n\x1b[?25h")

    def _has_spoken(self) -> None:
        self._spoken = time.monotonic()
        self._watch()

    def _watch(self) -> None:
        if self._thread or self.page.quiet:
            return
        self._thread = threading.Thread(target=self._tick, daemon=True, name="progress")
        self._thread.start()

    def _tick(self) -> None:
        try:
            while not self._ended.wait(_TICK):
                with self._lock:
                    if self._ended.is_set():
                        return
                    self._show()
        except (OSError, ValueError):  # the reader of the stream has gone, or the stream is closed
            return

    def _show(self) -> None:
        now = time.monotonic()
        if self._has_bars and self._works:
            for work in self._works:
                if now - work.begun >= _AT_ONCE:
                    self._show_bar(work)
        elif now - self._spoken >= SILENCE and not _has_foreign_bar():
            if self._works:
                self.say_where()
            elif self._status:
                message, since = self._status
                self.line(f"still {message} … ({duration(now - since)})")

    def _show_bar(self, work: _Work) -> None:
        if self._bars is None:
            self._bars = _bars(self.page)
            self._bars.start()
        if work.bar is None:
            work.bar = self._bars.add_task("", total=work.pace.total, work=work)
        self._bars.update(work.bar, completed=work.pace.done)
        self._has_spoken()

    def forget(self, work: _Work) -> None:
        """End a work and remove its bar; the last bar stays on the screen if it has a text."""
        with self._lock:
            if work not in self._works:
                return
            self._works.remove(work)
            if self._bars is None or work.bar is None:
                return
            self._bars.update(work.bar, completed=work.pace.done)
            if self._works:
                self._bars.remove_task(work.bar)
            else:
                self._bars.live.transient = not work.text
                self._bars.stop()
                self._bars = None


class _Work:
    """Work that is shown: its pace, its text, and its bar once there is one."""

    def __init__(self, display: Display, what: str, pace: Pace, unit: str) -> None:
        self.what, self.pace, self.unit = what, pace, unit
        self.begun = time.monotonic()
        self.bar: TaskID | None = None
        self.text = ""
        self.is_told = False
        self._display = display

    def advance(self, count: int = 1) -> None:
        """Count what is done; the thread of the display draws it later."""
        self.pace.advance(count)

    def end(self) -> None:
        """Take the bar off the screen."""
        self._display.forget(self)

    @property
    def count(self) -> str:
        """How much is done, of how much."""
        done, total = self.pace.done, self.pace.total
        if self.unit == "B":
            return decimal(done) + (f"/{decimal(total)}" if total else "")
        if total is None:
            return f"{done:,} {self.unit}".strip() if done else ""
        return f"{done}/{total}"

    @property
    def left(self) -> str:
        """How long it will still take; empty as long as that cannot be told."""
        seconds = self.pace.seconds_left()
        is_done = self.pace.total is not None and self.pace.done >= self.pace.total
        return "" if seconds is None or is_done else f"about {duration(seconds)} left"

    @property
    def line(self) -> str:
        """What is done, how much of it, its text and the time left, as one line."""
        return "  ".join(filter(None, (f"{self.what} {self.count}".strip(), self.text, self.left)))


class _Left(ProgressColumn):
    """The time that is left, or the time it took so far where that cannot be told."""

    def render(self, task: Task) -> RenderableType:
        work: _Work = task.fields["work"]
        took = duration(time.monotonic() - work.begun)
        return Text(work.left or took, style="progress.remaining")


class _Count(ProgressColumn):
    def render(self, task: Task) -> RenderableType:
        work: _Work = task.fields["work"]
        return Text(printable.line(f"{work.what} {work.count}".strip()))


class _Told(ProgressColumn):
    def render(self, task: Task) -> RenderableType:
        return Text(printable.line(task.fields["work"].text), no_wrap=True, overflow="ellipsis")


def _bars(page: Page) -> Progress:
    def whole(width: int | None = None) -> Column:
        return Column(no_wrap=True, min_width=width)

    return Progress(
        _Count(table_column=whole()),
        BarColumn(bar_width=16, table_column=whole(16)),
        _Left(table_column=whole()),
        _Told(table_column=Column(overflow="ellipsis")),  # the one that is cut on a narrow terminal
        console=page.console,
        redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),
    )


def _has_foreign_bar() -> bool:
    """Return whether a library shows a bar of its own, as the Hub's client does in downloads."""
    tqdm = sys.modules.get("tqdm.std")
    bars = getattr(getattr(tqdm, "tqdm", None), "_instances", None) or ()
    return any(not bar.disable for bar in [*bars])
