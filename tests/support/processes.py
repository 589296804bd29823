"""Running a command in a process of its own that can be killed, quickly.

A server imports the libraries once; every command is a fresh fork of it that enters the command
line where a user's would.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tamtctl.pruning.searching.api",
        "tamtctl.cli.views.progress",
        "datasets",
        "transformers.models.bert.modeling_bert",
    ]
)


def start(
    arguments: Sequence[object], folder: Path, *, out: str = "out", err: str = "err"
) -> ForkServerProcess:
    """Start ``tamtctl`` in a folder, where it leaves its output, unless that is a terminal's."""
    process = CONTEXT.Process(target=_run, args=([*map(str, arguments)], str(folder), out, err))
    process.start()
    return process


def _run(arguments: list[str], folder: str, out: str, err: str) -> None:
    from tamtctl.cli import app as cli

    os.chdir(folder)
    for name, stream in ((out, sys.stdout), (err, sys.stderr)):
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, stream.fileno())
    sys.argv = ["tamtctl", *arguments]
    cli.main()
