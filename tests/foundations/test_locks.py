"""Locks between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONTENDER = """
import sys, time
from pathlib import Path
from tamtctl.foundations.locks import locked

taken, ends = 0, time.monotonic() + 2
while time.monotonic() < ends:
    try:
        with locked(Path(sys.argv[1])):
            taken += 1
    except BlockingIOError:
        pass
print(taken)
"""


def test_a_lock_file_that_vanishes_meanwhile_is_busy(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONTENDER, str(tmp_path / "lock")]
    contenders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    taken = [one.communicate()[0] for one in contenders]
    assert [one.returncode for one in contenders] == [0, 0, 0]
    assert all(int(count) > 0 for count in taken)
