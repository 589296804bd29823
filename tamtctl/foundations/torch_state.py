"""State of torch that a caller may have changed, put aside during a call of the library.

A search within the caller's ``torch.autocast`` would keep old copies of the weights that masks are
folded into, one within ``torch.no_grad()`` could not train, and a default dtype or device would
reach tensors that are not the caller's. Nothing here loads torch, since nobody can have changed it
before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_AUTOCAST = ("cpu", "cuda", "mps")  # device types

_lock = threading.Lock()
_users: list[Any] = []  # the caller's default dtype, once for each call that is running


@contextmanager
def usual_torch() -> Iterator[None]:
    """Run with torch's own defaults: gradients, no autocast, float32, the CPU.

    What the caller had comes back in the end. The default dtype is that of all threads: it comes
    back when the last of them is done.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "inference_mode"):  # another thread is importing it
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_float32(torch))
        yield


@contextmanager
def _float32(torch: Any) -> Iterator[None]:
    with _lock:
        _users.append(_users[0] if _users else torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            before = _users.pop()
            if not _users:
                torch.set_default_dtype(before)
