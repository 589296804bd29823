"""Foreign errors that a user can meet anywhere, as one line: the disk, permissions, long names."""

from __future__ import annotations

import ctypes
import errno
import sys
from pathlib import Path

import processes
import pytest
import tiny
from command_line import Run, runner
from safetensors import SafetensorError
from samples import examples_file
from small_disk import small_disk

from tamtctl.foundations.errors import explain

LONG = "n" * 300


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in a working directory that holds a model and labelled examples."""
    monkeypatch.chdir(tmp_path)
    tiny.save(Path("model"), "bert")
    examples_file(Path("own.jsonl"))
    return runner(monkeypatch, capsys)


def own_task(**changes: object) -> list[object]:
    """Return the arguments that fine-tune the model on the examples."""
    options = {"train": "own.jsonl", "dev": "own.jsonl", "model": "model", "epochs": 1} | changes
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return ["finetune", "--dense", *given]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "b/x.txt"),
            "permission denied (b/x.txt); name a file or folder that you may read, and write if it "
            "is for output",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "no space left on the disk; free some, or choose another --output-dir",
        ),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            "no space left on the disk; free some, or choose another --output-dir",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a" * 400 + "/the-end"),
            f"a name is too long for the file system ({'a' * 160}…{'a' * 31}/the-end); "
            "give a shorter one",
        ),
        (ValueError("a bug"), None),
        (OSError("no number"), None),
    ],
)
def test_foreign_errors_say_what_where_and_what_to_do(error: Exception, line: str | None) -> None:
    assert explain(error) == line


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", LONG],
        ["evaluate", "model", "--task", "sst2", "--predict", LONG],
        own_task(train=LONG),
        own_task(**{"output-dir": LONG}),
        ["finetune", "sst2", "--dense", "--model", "model", "--data-dir", LONG],
    ],
)
def test_a_name_that_is_too_long_is_named(arguments: list[object], run: Run) -> None:
    done = run(*arguments)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("error: a name is too long for the file system (nnn")
    assert last.endswith("; give a shorter one")


def test_a_disk_that_is_full_when_a_checkpoint_is_saved(run: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "24k") as disk:
        done = run(*own_task(**{"output-dir": disk / "run"}))
        assert done.code == 1
        last = done.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert "no space left on the disk; free some, or choose another --output-dir" in last
        assert not list(disk.glob("run/seed-*"))


def give_up_the_rights_of_root() -> None:
    """Let this process read only what it may; nothing changes for other users than root."""
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface, this process
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: 32 of them, then the rest
    assert library.capget(header, rights) == 0
    overriding = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    for set_of_rights in range(3):
        rights[set_of_rights] &= ~overriding
    assert library.capset(header, rights) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to give up rights")
@pytest.mark.parametrize("file", ["model/model.safetensors", "model"])
def test_what_may_not_be_read_is_named(file: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / file).chmod(0)
    process = processes.start(["evaluate", "model"], tmp_path, before=give_up_the_rights_of_root)
    process.join()
    (tmp_path / file).chmod(0o755)
    assert process.exitcode == 1
    last = (tmp_path / "err").read_text().splitlines()[-1]
    assert "permission" in last
    assert file in last
