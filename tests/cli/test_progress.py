"""Nothing is silent: the bar moves, time is told, a signal is answered, on the right stream."""

from __future__ import annotations

import hashlib
import io
import os
import pty
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import processes
import pytest
from small_search import command, small_config

from tamtctl.cli import display
from tamtctl.cli.console import Page
from tamtctl.cli.display import Display
from tamtctl.cli.pace import Pace
from tamtctl.foundations import signals as interruption
from tamtctl.foundations.signals import (
    KEPT,
    SAVING,
    Answering,
    DeferredSignals,
    answer_by,
    promising,
)
from tamtctl.foundations.watching import ProgressBars
from tamtctl.foundations.working import counted, heard_by, work
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig


@pytest.fixture
def config(tiny_model: Path, text_file: Path) -> SearchConfig:
    return small_config(tiny_model, text_file, checkpoint_every=4)


class Terminal:
    """A pseudo-terminal, and all that was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.name = os.ttyname(slave)
        self.stream = open(slave, "w")  # noqa: PTH123, SIM115, closed below
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 4096):
                self.text += part.decode(errors="replace")
        except OSError:  # nobody writes any more
            pass

    def close(self) -> str:
        self.stream.close()
        self._reader.join(10)
        os.close(self._master)
        return self.text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    yield (terminal := Terminal())
    if not terminal.stream.closed:
        terminal.close()


# --- how long it takes ----------------------------------------------------------------------------


def test_the_second_report_says_how_long_it_will_take() -> None:
    pace = Pace(total=10)
    assert pace.seconds_left(now=0.0) is None
    pace.advance(1, now=100.0)  # the first step warms up, whatever it takes
    assert pace.seconds_left(now=100.0) is None
    pace.advance(1, now=102.0)
    assert pace.seconds_left(now=102.0) == pytest.approx(8 * 2)
    assert pace.seconds_left(now=105.0) == pytest.approx(8 * 2 - 3)
    assert pace.seconds_left(now=1000.0) == 0
    resumed = Pace(total=100, done=90)
    resumed.advance(1, now=0.0)
    resumed.advance(1, now=3.0)
    assert resumed.seconds_left(now=3.0) == pytest.approx(8 * 3)


# --- where there is no terminal -------------------------------------------------------------------


def test_without_a_terminal_there_is_a_line_every_so_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(display, "SILENCE", 0.2)
    text = io.StringIO()
    shown = Display(Page(text))
    shown.status("loading the model")
    time.sleep(0.7)
    with heard_by(SimpleNamespace(begin=shown.begin)):
        for _ in counted(range(4), "measuring", 4):
            with work("evaluating", unit="tokens") as advance:
                advance(1234)
                time.sleep(0.3)
    shown.close()
    lines = text.getvalue().splitlines()
    assert lines[0] == "loading the model …"
    assert lines[1].startswith("still loading the model … (")
    where = [line for line in lines if line.startswith("measuring ")]
    assert re.fullmatch(r"measuring 3/4  about \d s left; evaluating 1,234 tokens", where[-1])
    assert "\x1b" not in text.getvalue()


def test_a_quiet_command_says_nothing_and_has_no_thread() -> None:
    text = io.StringIO()
    shown = Display(Page(text, quiet=True))
    threads = threading.active_count()
    shown.status("loading")
    shown.begin("measuring", 3, 0, "").advance()
    assert threading.active_count() == threads
    shown.close()
    assert text.getvalue() == ""


# --- terminals ------------------------------------------------------------------------------------


def test_colours_and_bars_are_those_of_the_stream(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        other = Terminal()
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            page = Page(other.stream)
            page.facts({"a": "b"})
            shown = Display(page)
            with heard_by(SimpleNamespace(begin=shown.begin)), work("step", 2) as advance:
                advance(1)
                time.sleep(0.8)
            shown.close()
        assert ("━" in other.close()) is (name != "TERM")
    page = Page(terminal.stream)
    page.facts({"a": "b"})
    assert "\x1b[1ma  \x1b[0mb" in terminal.close()


def test_the_bar_moves_every_step_and_leaves_the_terminal_as_it_was(
    config: SearchConfig, tmp_path: Path, terminal: Terminal
) -> None:
    process = processes.start(command(config, "--steps", 9999), tmp_path, err=terminal.name)
    deadline = time.monotonic() + 60
    while len(set(re.findall(r"step (\d+)/9999", terminal.text))) < 4:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join()
    text = terminal.close()
    assert process.exitcode == 130
    bar = r"step \d+/9999 ━+ about \d+ (s|min) left +loss \d\."  # whole in 80 columns
    assert re.search(bar, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text))
    assert any(int(step) % 10 for step in re.findall(r"step (\d+)/9999", text))
    assert SAVING in text
    assert text.index(SAVING) < text.index("is saved; the same command goes on from there")
    assert "error: interrupted" in text
    assert "Traceback" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there again
    assert (tmp_path / "out").read_text() == ""


# --- signals --------------------------------------------------------------------------------------


def test_what_is_under_way_does_not_delay_the_answer() -> None:
    said: list[tuple[str, float]] = []
    answer_by(lambda line: said.append((line, time.monotonic())))
    with Answering(), DeferredSignals() as signals:
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)  # no handler is called within
        ended = time.monotonic()
        (line, at), signals.number = said[0], None
    assert line == SAVING
    assert at < ended - 0.1


def be_stubborn() -> None:
    """Compute for minutes where no handler is called, and be asked twice to stop."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    interruption._PATIENCE = 0.2
    with Answering(), DeferredSignals():
        for after in (0.2, 0.4):
            threading.Timer(after, os.kill, [os.getpid(), signal.SIGINT]).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


def test_a_second_signal_waits_for_nothing() -> None:
    process = processes.Process(target=be_stubborn)
    process.start()
    process.join(60)
    is_alive = process.is_alive()
    process.kill()
    assert not is_alive
    assert process.exitcode == 130


def test_every_moment_has_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    answer_by(say)
    for promise, said in ((None, "stopping; nothing is lost\n"), (KEPT, f"{KEPT}\n")):
        with pytest.raises(KeyboardInterrupt), Answering():  # noqa: PT012
            if promise is None:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            with promising(promise or ""):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
        assert capsys.readouterr().err == said


def test_an_evaluation_is_interrupted_in_words(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    text = tmp_path / "long.txt"
    text.write_text(f"{text_file.read_text()}\n" * 40)
    own = os.environ | {"TAMTCTL_CACHE": str(tmp_path / "cache")}
    process = processes.start(
        ["evaluate", tiny_model, "--corpus", text, "--blocks", 10**6, "--sequence-length", 16,
         "--batch-size", 1], tmp_path, before=partial(processes.live_in, own)
    )  # fmt: skip
    while process.is_alive() and not list(tmp_path.glob("cache/corpora/[!.]*")):
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    assert sorted((tmp_path / "err").read_text().splitlines()) == [
        "error: interrupted", "stopping; nothing is lost"
    ]  # fmt: skip


# --- the library ----------------------------------------------------------------------------------


def test_the_library_is_silent_but_in_a_notebook_or_on_request(
    config: SearchConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search(config, output_dir=tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    search(config, output_dir=tmp_path / "asked", watcher=ProgressBars())
    told = capsys.readouterr()
    assert told.out == ""
    assert "step: 100%" in told.err
    assert "40/40" in told.err
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    search(config, output_dir=tmp_path / "notebook")
    assert "40/40" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "IPython")
    evaluate(EvaluateConfig(name=config.model, corpus=config.corpus, sequence_length=16))
    assert capsys.readouterr() == ("", "")
