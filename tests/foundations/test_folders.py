"""What a killed process leaves while it writes is swept or finished by the next, no live one's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from small_tickets import small_ticket

from tamtctl.foundations.files import replacing_file
from tamtctl.foundations.folders import replacing
from tamtctl.ticket.ticket import Ticket

KILLED = """
import os, signal, sys
from tamtctl.foundations.folders import replacing
with replacing(sys.argv[1], "ticket.json", ("ticket.json",)) as new:
    (new / "ticket.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
TAG = "0123abcd"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_killed_while_it_wrote(tmp_path: Path) -> None:
    target = tmp_path / "t"
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".t.new-")
    small_ticket().save_pretrained(target)
    assert names(tmp_path) == ["t"]


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    """The old ticket is the only one there is: it comes back, and what lay beside it stays."""
    target, old = tmp_path / "t", tmp_path / f".t.old-{TAG}"
    small_ticket(method="random").save_pretrained(old)
    (old / "notes.txt").write_text("mine")
    (tmp_path / f".t.new-{TAG}").mkdir()
    small_ticket().save_pretrained(target)
    assert names(tmp_path) == ["t"]
    assert Ticket.load(target).method == "tamt"
    assert (target / "notes.txt").read_text() == "mine"


def test_killed_while_it_moved_other_files_along(tmp_path: Path) -> None:
    target, old = tmp_path / "t", tmp_path / f".t.old-{TAG}"
    small_ticket(method="random").save_pretrained(target)
    small_ticket(method="imp").save_pretrained(old)
    (old / "notes.txt").write_text("mine")
    small_ticket().save_pretrained(target)
    assert names(tmp_path) == ["t"]
    assert (target / "notes.txt").read_text() == "mine"


def test_what_is_at_work_or_not_ours_stays(tmp_path: Path) -> None:
    target = tmp_path / "t"
    for name in (".t.new-mine", ".t.old-", ".t.new-0123ABCD", ".other.new-0123abcd", ".t.new"):
        (tmp_path / name).mkdir()
    (tmp_path / f".t.old-{TAG}").symlink_to(tmp_path / ".t.new-mine")
    before = names(tmp_path)
    with replacing(target) as first:
        (first / "a").touch()
        small_ticket().save_pretrained(target)
        assert (first / "a").exists()
        assert names(tmp_path) == sorted([*before, first.name, "t"])
        (target / "ticket.json").unlink()
    assert names(tmp_path) == sorted([*before, "t"])
    assert (target / "a").exists()


def test_files(tmp_path: Path) -> None:
    (tmp_path / f".a.json-{TAG}").write_text("half")
    (tmp_path / ".a.json-other").touch()
    with replacing_file(tmp_path / "a.json") as first:
        first.write(b"first")
        with replacing_file(tmp_path / "a.json") as second:
            second.write(b"second")
        assert (tmp_path / "a.json").read_bytes() == b"second"
    assert (tmp_path / "a.json").read_bytes() == b"first"
    assert names(tmp_path) == [".a.json-other", "a.json"]
    assert oct(os.stat(tmp_path / "a.json").st_mode) == oct(0o100666 & ~umask())  # noqa: PTH116


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
