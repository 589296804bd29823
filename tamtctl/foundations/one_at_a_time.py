"""What a process has only once, in torch and transformers: one thread at a time may use it.

Loading a model replaces functions of torch and settings of transformers for a while, and draws from
the process's random numbers, as dropout does. Threads that did so at once got wrong models, or
numbers that no run gets again; so they wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Whoever loads a model, or draws random numbers that no other thread may draw, holds it.
random_numbers = threading.RLock()


def loads(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function that loads or saves a model be run by one thread at a time."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with random_numbers:
            return function(*args, **kwargs)

    return alone
