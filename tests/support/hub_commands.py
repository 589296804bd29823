"""Commands that talk to a Hub, run one after the other in one process."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import processes

# Several commands in one process, since most of a command's seconds go into importing torch.
COMMANDS = """
import contextlib, io, json, sys
from tamtctl.cli import app as cli

for arguments in json.loads(sys.argv[1]):
    out, err, sys.argv = io.StringIO(), io.StringIO(), ["tamtctl", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def run_with_hub(commands: Sequence[str], **environment: str) -> list[tuple[int, str, str]]:
    """Run commands in a process that asks another Hub; return code, output and errors of each."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    home = {"HF_HOME": str(Path("home").absolute()), "HF_HUB_DISABLE_XET": "1"}
    done = processes.run_script(
        COMMANDS,
        json.dumps([command.split() for command in commands]),
        environment=clean | home | environment,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
