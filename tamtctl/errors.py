"""The errors a user can meet: each is one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import re


class TamtctlError(Exception):
    """Something failed for a reason the user can act on; the message is the whole story.

    The command line prints it as one line and exits with ``exit_code``.
    """

    exit_code = 1


class UsageError(TamtctlError):
    """The request itself is wrong: an option out of range, an unknown name."""

    exit_code = 2


class TicketError(TamtctlError):
    """A ticket folder is not a valid ticket, or does not fit the model at hand."""


class HubError(TamtctlError):
    """The Hub refuses a request, cannot be reached, or holds something that is no ticket."""


class CorpusError(TamtctlError):
    """A corpus cannot be read, is empty or too short, or is not text."""


class TaskError(TamtctlError):
    """A task's examples cannot be read, or do not fit the task or the model at hand."""


class ModelError(TamtctlError):
    """A model cannot be loaded, or is not an encoder that the request can use."""


class DivergedError(TamtctlError):
    """A training has lost its way: its loss exploded or is no number."""


class DamagedRunError(TamtctlError):
    """A run's folder does not hold what its name and its files say."""


class NoHeadError(ModelError):
    """A model has no pre-trained masked-LM head, and the request needs one."""


def explain(error: BaseException) -> str | None:
    """Return one line for a foreign error that a user can meet anywhere, or None if it is ours.

    The command line uses it as its last resort before calling an error a bug.
    """
    if isinstance(error, OSError) and error.errno in _OS_ERRORS:
        where = f" ({error.filename})" if error.filename else ""
        return _OS_ERRORS[error.errno] + where
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "not enough memory; use a smaller --batch-size, --micro-batch-size or model"
    if isinstance(error, RuntimeError) and re.search(r"gloo|NCCL", str(error)):
        return (
            "lost another process of this run; if it did not say why, the system may have killed "
            "it, for example for its memory"
        )
    return None


_OS_ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some, or choose another --output-dir",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another --output-dir",
    errno.EACCES: "permission denied; choose a folder that you can write",
    errno.EPERM: "operation not permitted; choose a folder that you can write",
    errno.EROFS: "the file system is read-only; choose another --output-dir",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}
