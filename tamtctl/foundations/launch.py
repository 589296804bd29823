"""Whether ``torchrun`` started this process as one of several; imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tamtctl.foundations.errors import UsageError

_REMEDY = "unset WORLD_SIZE, or start with torchrun"
# Environment variables that torch needs besides the number of processes.
_NUMBERS, _ADDRESS = ("RANK", "LOCAL_RANK", "MASTER_PORT"), "MASTER_ADDR"


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes by the environment; 1 if it has none or no number.

    The variable may be left over from another job; see `check_launch`.
    """
    given = environment.get("WORLD_SIZE", "")
    return int(given) if given.isascii() and given.isdecimal() else 1


def check_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse an environment with several processes that is not one of ``torchrun``.

    Raises:
        UsageError: A variable is missing or invalid; the message names it.
    """
    given = environment.get("WORLD_SIZE", "")
    if given and not (given.isascii() and given.isdecimal() and int(given)):
        raise UsageError(f"WORLD_SIZE is {given!r}, which is no number of processes; {_REMEDY}")
    size = world_size(environment)
    if size == 1:
        return
    for name in (_ADDRESS, *_NUMBERS):
        if not environment.get(name):
            raise UsageError(f"WORLD_SIZE is set, but {name} is not: {_REMEDY}")
    for name in _NUMBERS:
        value = environment[name]
        most = 65535 if name == "MASTER_PORT" else size - 1
        if not (value.isascii() and value.isdecimal() and int(value) <= most):
            wrong = f"{name} is {value!r}, not a number up to {most}"
            raise UsageError(f"WORLD_SIZE is {size}, but {wrong}: {_REMEDY}")
