"""The code of a kind of task, found by the name of its row.

Where the code of a script fails, or returns what nothing can be done with, one line names the kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

from tamtctl.data.padded_batches import Encoded
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.kinds.base import Predictions, TaskKind
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.task import Task

_GIVES = {"encode": Encoded, "loss": Tensor, "predictions": Predictions, "metrics": Mapping}


def kind_of(task: Task) -> TaskKind:
    """Return the `TaskKind` of a task."""
    return code_of(task.kind)(task)


def code_of(kind: str) -> type[TaskKind]:
    """Return the class of a kind on the shelf.

    Raises:
        UsageError: Its module defines no class ``Code``. So does a method of a script's class that
            fails, or returns what training and scoring cannot use.
    """
    row = KINDS[kind]
    found = row.function("Code")
    if not (isinstance(found, type) and issubclass(found, TaskKind)):
        raise UsageError(f"the Code of the kind of task {kind!r} is no class made of TaskKind")
    return _blamed(found, kind) if row.is_foreign else found


@cache
def _blamed(found: type[TaskKind], kind: str) -> type[TaskKind]:
    """Return the class of a script, in which every method that the script defines checks itself."""
    wrapped = {}
    for name in (name for name in vars(TaskKind) if not name.startswith("_")):
        definer = next(one for one in found.__mro__ if name in vars(one))
        if not definer.__module__.startswith("tamtctl."):
            wrapped[name] = _wrapped(kind, name, vars(definer)[name])
    return type(found.__name__, (found,), wrapped)


def _wrapped(kind: str, name: str, part: Any) -> Any:
    """Return a method, class method or property that checks itself; anything else as it is."""
    if isinstance(part, classmethod):
        return classmethod(_checked(kind, name, part.__func__))
    if isinstance(part, property) and part.fget:
        return property(_checked(kind, name, part.fget))
    return _checked(kind, name, part) if inspect.isfunction(part) else part


def _checked(kind: str, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method whose errors, and results of no use, name the kind."""
    what = f"{name} of the kind of task {kind!r}"

    @wraps(method)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        with KINDS[kind].blamed(f"{what} failed"):
            given = method(self, *args, **options)
        if fault := _fault(name, given, args):
            raise UsageError(f"{what} {fault}")
        return _items(kind, what, given) if inspect.isgenerator(given) else given

    return checked


def _items(kind: str, what: str, given: Iterator[Any]) -> Iterator[Any]:
    """Yield what a generator of a script gives, whose errors name the kind."""
    with KINDS[kind].blamed(f"{what} failed"):
        yield from given


def _fault(name: str, given: Any, args: tuple[Any, ...]) -> str | None:
    """Return what is wrong with a method's result; None if nothing is."""
    wanted = _GIVES.get(name)
    if wanted and not isinstance(given, wanted):
        return f"gives {type(given).__name__}, not {wanted.__name__}"
    if name == "loss" and given.dim() > 0:
        return f"has the shape {list(given.shape)}; it must be one number, the mean of the batch"
    if name == "loss" and torch.is_grad_enabled() and not given.requires_grad:
        return "has no gradient: compute it from the model's outputs, without detach or no_grad"
    if name == "predictions" and {len(given.values), len(given.confidences)} != {len(args[0])}:
        return (
            f"gives {len(given.values)} values and {len(given.confidences)} confidences for "
            f"{len(args[0])} examples"
        )
    return None
