"""A lock for global state of torch and transformers, which one thread at a time may use.

Loading a model temporarily replaces functions of torch and settings of transformers, and draws from
the process's random numbers, as dropout does. Threads that did so at the same time would get wrong
models, or random numbers that are not reproducible.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class _Alone:
    """A lock that one thread at a time holds; torch's random numbers are then as before it.

    A caller's own draws between two calls of the library would else be the same after each.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._times = 0  # how often the thread has entered
        self._as_before = ExitStack()

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._times == 0:
            devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
            self._as_before.enter_context(torch.random.fork_rng(devices))
        self._times += 1

    def __exit__(self, *_: object) -> None:
        self._times -= 1
        if self._times == 0:
            self._as_before.close()
        self._lock.release()


# Held while a model is loaded or saved, or while reproducible random numbers are drawn.
random_state_lock = _Alone()


def one_thread_at_a_time(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that loads or saves a model, so that one thread at a time runs it."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with random_state_lock:
            return function(*args, **kwargs)

    return alone
