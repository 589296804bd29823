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


def hub_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process with a cache of its own, whose Hub ``more`` names."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()
    }
    return {**kept, "HF_HOME": str(home.absolute()), "HF_HUB_DISABLE_XET": "1", **more}


def run_with_hub(commands: Sequence[str], **environment: str) -> list[tuple[int, str, str]]:
    """Run commands in a process that asks another Hub; return code, output and errors of each."""
    done = processes.run_script(
        COMMANDS,
        json.dumps([command.split() for command in commands]),
        environment=hub_environment(Path("home"), **environment),
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
