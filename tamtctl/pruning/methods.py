"""The methods of a search (``--method``), and the names that a comparison has for them.

Imports nothing heavy. Mask training (``tamt``) stands in a comparison once for every objective, as
``tamt-mlm``; iterative magnitude pruning (``imp``) and the one-shot methods stand for themselves.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tamtctl.foundations.checks import did_you_mean, one_of
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.criteria import (
    CRITERIA,
    JOINED_BY,
    Criterion,
    find_criterion,
    is_criterion,
)
from tamtctl.pruning.objectives import headless, objectives, terms_of, usual_for_sentences

TAMT, IMP = "tamt", "imp"
TRAINED = (TAMT, IMP)
IMP_OBJECTIVE = "mlm"  # what the weights are trained on between two cuts

# The colours are those of Okabe and Ito, which most colour-blind people can tell apart.
_OF_IMP = ("#009E73", "^")
_OTHERS = (("#CC79A7", "D"), ("#882255", "P"), ("#44AA99", "h"), ("#AA4499", "*"))


@dataclass(frozen=True)
class Method:
    """A method as a comparison names it.

    Attributes:
        name: Its name in a comparison, such as ``tamt-kd`` or ``imp``.
        method: The ``--method`` of a search for it.
        objective: The ``--objective`` of a search for it. A one-shot method trains for none, and
            takes one that needs no masked-LM head.
        label: What tables and sentences call it.
        style: Colour and marker in figures.
        is_trained: Whether it trains; a one-shot method does not.
        trains_mask: Whether it is mask training.
        takes_a_run: Whether its mask takes a run, and cannot be made from the weights alone.
        needs_head: Whether the model needs its pre-trained masked-LM head.
        needs_embeddings: Whether the model has to say how it makes sentence embeddings.
    """

    name: str
    method: str
    objective: str
    label: str
    style: tuple[str, str]
    is_trained: bool = True
    trains_mask: bool = False
    takes_a_run: bool = True
    needs_head: bool = False
    needs_embeddings: bool = False


def default_methods(
    *, has_head: bool, has_pooling: bool, are_tuned: bool = False
) -> tuple[str, ...]:
    """Return the methods that a sweep compares by default; the choice is a matter of taste.

    Mask training is among them once, with the objective that suits the model. Before fine-tuning it
    is there with both of the paper's objectives: a low masked-LM loss alone says little of a task.
    For nano at sparsity 0.8, all of them together take two to five minutes on two cores.

    Args:
        has_head: Whether the model has a masked-LM head.
        has_pooling: Whether it says how it makes sentence embeddings.
        are_tuned: Whether the masks are fine-tuned on tasks.
    """
    if has_head:
        trained = ("tamt-mlm", "tamt-kd") if are_tuned else ("tamt-mlm",)
        return (*trained, "imp", "fisher", "obs", "wanda", "magnitude", "random")
    objective = usual_for_sentences() if has_pooling else "kd"
    return (f"{TAMT}-{objective}", "fisher-kd", "obs", "wanda", "magnitude", "random")


def methods() -> tuple[str, ...]:
    """Return every ``--method`` of a search."""
    return (*TRAINED, *CRITERIA)


def check_method(option: str, name: str) -> None:
    """Raise UsageError unless it is a ``--method`` of a search, or a combined order."""
    if JOINED_BY in name:
        find_criterion(name)
    else:
        one_of(option, name, methods())


def check_init(option: str, name: str) -> None:
    """Raise UsageError if it is a combined order of which a part is no criterion."""
    if is_criterion(name):
        find_criterion(name)


def sweep_methods() -> dict[str, Method]:
    """Return every method that a comparison knows, by the name that it has there."""
    others = itertools.cycle(_OTHERS)
    found = {}
    for objective in objectives():
        terms, name = terms_of(objective), f"{TAMT}-{objective}"
        own = terms[0].style if len(terms) == 1 else None
        found[name] = Method(
            name=name,
            method=TAMT,
            objective=objective,
            label=name.upper(),
            style=own or next(others),
            trains_mask=True,
            needs_head=terms.need_head,
            needs_embeddings=terms.need_embeddings,
        )
    needs_head = terms_of(IMP_OBJECTIVE).need_head
    found[IMP] = Method(IMP, IMP, IMP_OBJECTIVE, IMP.upper(), _OF_IMP, needs_head=needs_head)
    for row in CRITERIA.values():
        found[row.name] = _one_shot(row, row.style or next(others))
    return found


def known_method(name: str) -> Method | None:
    """Return the method of a name, which may be a combined order; None if there is none."""
    if JOINED_BY in name and is_criterion(name):
        row = find_criterion(name)
        return _one_shot(row, _OTHERS[sum(map(ord, row.name)) % len(_OTHERS)])
    return sweep_methods().get(name)


def check_sweep_method(option: str, name: str) -> None:
    """Raise UsageError unless a comparison knows a method by this name."""
    known = sweep_methods()
    if JOINED_BY in name:
        find_criterion(name)
    elif name not in known:
        listed = ", ".join(one for one in known if "+" not in one)
        raise UsageError(
            f"--{option} must be one of {listed}, or {TAMT} with a sum of objectives such as "
            f"{TAMT}-mlm+kd, got {name!r}{did_you_mean(name, known)}"
        )


def _one_shot(row: Criterion, style: tuple[str, str]) -> Method:
    return Method(
        name=row.name,
        method=row.name,
        objective=headless().name,
        label=row.label or row.name,
        style=style,
        is_trained=False,
        takes_a_run=row.needs_text,
        needs_head=row.needs_head,
    )


def sweep_name(method: str, objective: str | None) -> str:
    """Return a comparison's name for the method and objective of a ticket."""
    return f"{method}-{objective}" if method == TAMT and objective else method
