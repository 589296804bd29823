"""Running a command or a script in a process of its own that can be killed, quickly.

A server imports the libraries once; every process is a fresh fork of it that enters the command
line, or runs the script, where a user's would.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tamtctl.comparison.api",
        "tamtctl.ticket.exporting.checkpoint",
        "tamtctl.tasks.finetuning.api",
        "tamtctl.tasks.evaluation.api",
        "tamtctl.cli.app",
        "tamtctl.cli.views.progress",
        "pydantic.type_adapter",  # the parser's, when it meets an option
        "datasets",
        "transformers.models.bert.modeling_bert",
        "warmed",
    ]
)


def nothing() -> None:
    """What is done before a command unless something is."""


def start(
    arguments: Sequence[object],
    folder: Path,
    *,
    out: str = "out",
    err: str = "err",
    before: Callable[[], object] = nothing,
) -> ForkServerProcess:
    """Start ``tamtctl`` in a folder, where it leaves its output, unless that is a terminal's.

    Args:
        arguments: The command line.
        folder: Where to run it.
        out: File of the output.
        err: File of the messages.
        before: Is called in the process, in that folder, before the command begins.
    """
    words = [*map(str, arguments)]
    process = Process(target=_run, args=(words, str(folder), out, err, before))
    process.start()
    return process


def start_several(
    count: int,
    arguments: Sequence[object],
    folder: Path,
    environment: Mapping[str, str] = os.environ,
) -> list[ForkServerProcess]:
    """Start ``tamtctl`` in several processes, as torchrun would; each has files of its own."""
    return [
        start(
            arguments,
            folder,
            out=f"out-{rank}",
            err=f"err-{rank}",
            before=partial(live_in, {**environment, **own}),
        )
        for rank, own in enumerate(environments(count))
    ]


def environments(count: int) -> list[dict[str, str]]:
    """Return the variables by which torchrun tells so many processes who they are."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def live_in(environment: Mapping[str, str]) -> None:
    """Make this process one that was started with an environment.

    The libraries of the Hub read theirs when they are imported, into a module of constants each.
    """
    os.environ.clear()
    os.environ.update(environment)
    for constants in ("huggingface_hub.constants", "datasets.config"):
        importlib.reload(importlib.import_module(constants))


class Process(ForkServerProcess):
    """A fresh fork of the server, which finds what warms it when the first one begins.

    Python hands the path of modules to the server only since 3.12.5.
    """

    def start(self) -> None:
        """Start it, and the server before the first."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            super().start()


class Done(NamedTuple):
    """How a script ended, and what it printed."""

    returncode: int | None
    stdout: str
    stderr: str


def run_script(
    script: str, *arguments: str, environment: Mapping[str, str], folder: Path = Path()
) -> Done:
    """Run Python code in an environment and a folder, as ``python -c`` would."""
    with tempfile.TemporaryDirectory() as kept:
        files = [str(Path(kept, name)) for name in ("out", "err")]
        process = Process(
            target=_interpret, args=(script, arguments, dict(environment), str(folder), *files)
        )
        process.start()
        process.join()
        return Done(process.exitcode, *(Path(file).read_text() for file in files))


def _interpret(
    script: str,
    arguments: Sequence[str],
    environment: dict[str, str],
    folder: str,
    out: str,
    err: str,
) -> None:
    _move(folder, out, err)
    live_in(environment)
    sys.argv = ["-c", *arguments]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


def _run(
    arguments: list[str], folder: str, out: str, err: str, before: Callable[[], object]
) -> None:
    from tamtctl.cli import app as cli

    _move(folder, out, err)
    sys.argv = ["tamtctl", *arguments]
    before()
    cli.main()


def _move(folder: str, out: str, err: str) -> None:
    """Go to a folder, and write there from now on."""
    os.chdir(folder)
    for name, stream in ((out, sys.stdout), (err, sys.stderr)):
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, stream.fileno())
