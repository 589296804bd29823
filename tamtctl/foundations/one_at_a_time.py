"""A lock for global state of torch and transformers, which one thread at a time may use.

Loading a model temporarily replaces functions of torch and settings of transformers, and draws from
the process's random numbers, as dropout does. Threads that did so at the same time would get wrong
models, or random numbers that are not reproducible.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Held while a model is loaded or saved, or while reproducible random numbers are drawn.
random_numbers = threading.RLock()


def loads(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that loads or saves a model, so that one thread at a time runs it."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with random_numbers:
            return function(*args, **kwargs)

    return alone
