"""The errors that users can meet: one line that says what is wrong, where, and what to do.

    TamtctlError          exit code 1
    ├── UsageError        exit code 2
    ├── TicketError
    │   └── NoTicketError
    ├── HubError
    ├── CorpusError
    ├── TaskError
    ├── ModelError
    │   └── NoHeadError
    ├── DivergedError
    ├── DamagedRunError
    └── ChangedInputsError

`explain` turns errors of other libraries, including panics of Rust code, into such lines.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class TamtctlError(Exception):
    """Something failed for a reason that the user can act on; the message is complete.

    The command line prints it as one line and exits with ``exit_code``.

    Example:
        >>> try:
        ...     tamtctl.Ticket.from_pretrained("my-missing-ticket")
        ... except tamtctl.TamtctlError as error:
        ...     print(str(error).partition(":")[0])
        no ticket 'my-missing-ticket'
    """

    exit_code = 1


class UsageError(TamtctlError):
    """The request itself is wrong: an option out of range, an unknown name."""

    exit_code = 2


class TicketError(TamtctlError):
    """A ticket folder is not a valid ticket, or does not fit the model at hand."""


class NoTicketError(TicketError):
    """The name is not that of a ticket; it may be a model's."""


class HubError(TamtctlError):
    """The Hub refuses a request, cannot be reached, or holds something that is no ticket."""


class CorpusError(TamtctlError):
    """A corpus cannot be read, is empty or too short, or is not text."""


class TaskError(TamtctlError):
    """A task's examples cannot be read, or do not fit the task or the model at hand."""


class ModelError(TamtctlError):
    """A model cannot be loaded, or is not an encoder that the request can use."""


class DivergedError(TamtctlError):
    """A training diverged: its loss exploded, or is infinite or NaN."""


class DamagedRunError(TamtctlError):
    """A run's folder does not hold what its name and its files say."""


class ChangedInputsError(TamtctlError):
    """The inputs of a run have changed since, under the same names.

    Attributes:
        what: What changed, without the remedy.
    """

    def __init__(self, what: str, remedy: str) -> None:
        """Make the message from what changed and what to do."""
        super().__init__(f"{what}; {remedy}")
        self.what = what


class NoHeadError(ModelError):
    """A model has no pre-trained masked-LM head, and the request needs one."""


def explain(error: BaseException) -> str | None:
    """Return one line for an error of another library or the system; None for other errors.

    The command line uses it last, before it calls an error a bug.
    """
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return "no folder for temporary files can be written; set TMPDIR to one"
    if found := _OS_ERRORS.get(_os_error_number(error)):
        file = getattr(error, "filename", None)
        where = f" ({_shortened(str(file))})" if file else ""
        return f"{found[0]}{where}; {found[1]}"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "not enough memory; use a smaller --batch-size, --micro-batch-size or model"
    if isinstance(error, RecursionError):
        return "a file is nested too deep to be read; give one that is not"
    if is_panic(error):
        return f"a library broke down ({error}); the tokenizer of the model may be damaged"
    if isinstance(error, RuntimeError) and re.search(r"(server|client) socket", str(error)):
        return (
            "cannot reach the other processes at MASTER_ADDR and MASTER_PORT; unset WORLD_SIZE, or "
            "start with torchrun"
        )
    if isinstance(error, RuntimeError) and re.search(r"gloo|NCCL", str(error)):
        return (
            "lost another process of this run; if it did not say why, the system may have killed "
            "it, for example for its memory"
        )
    return None


def _os_error_number(error: BaseException) -> int | None:
    """Return the number of a system error; Rust libraries such as safetensors have it as text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _shortened(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH - 40]}…{path[-39:]}"


_LONGEST_PATH = 200  # most characters of a path in a message

_PERMISSION = "name a file or folder that you may read, and write if it is for output"

# Number → what is wrong, and what to do.
_OS_ERRORS: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: ("no space left on the disk", "free some, or choose another --output-dir"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose another --output-dir"),
    errno.EACCES: ("permission denied", _PERMISSION),
    errno.EPERM: ("operation not permitted", _PERMISSION),
    errno.ENOENT: ("there is no such file or folder", "check the name"),
    errno.ENOTDIR: ("a part of a path is no folder", "check the name"),
    errno.EISDIR: ("there is a folder where a file should be", "check the name"),
    errno.ELOOP: ("a link leads back to itself", "check the name"),
    errno.ESTALE: ("a file is gone from the network's disk", "try again"),
    errno.EIO: ("the disk cannot be read or written", "look into the system's log"),
    errno.EROFS: ("the file system is read-only", "choose another --output-dir"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENAMETOOLONG: ("a name is too long for the file system", "give a shorter one"),
}


def is_panic(error: BaseException) -> bool:
    """Return whether an exception is a panic of Rust code, which is no subclass of Exception."""
    return type(error).__name__ == "PanicException"


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Suppress what Rust code writes to standard error when it panics, and nothing else.

    Rust writes to the file descriptor, past ``sys.stderr``. The code that catches the panic reports
    it in one line.
    """
    try:
        original = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    panicked = False
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panicked = is_panic(error)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            kept.seek(0)
            if not panicked and (written := kept.read()):
                os.write(2, written)
