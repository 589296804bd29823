"""How a mask is found: every ``--method`` of a search, and what a comparison calls them.

Imports nothing heavy. Mask training (``tamt``) stands in a comparison once for every objective, as
``tamt-mlm``; iterative magnitude pruning (``imp``) and the one-shot methods stand for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from tamtctl.pruning.objectives import headless, objectives, terms_of

TAMT, IMP = "tamt", "imp"
ONE_SHOT = ("magnitude", "random")
METHODS = (TAMT, IMP, *ONE_SHOT)
IMP_OBJECTIVE = "mlm"  # what the weights are trained on between two cuts

# What a sweep compares unless it is told: a choice, not a rule.
DEFAULT_METHODS = ("tamt-mlm", "tamt-kd", "imp", "magnitude", "random")

# The colours are those of Okabe and Ito, which most colour-blind people can tell apart.
_OF_SUMS = (("#CC79A7", "D"), ("#56B4E9", "P"), ("#F0E442", "h"))
_STYLES = {IMP: ("#009E73", "^"), "magnitude": ("#E69F00", "v"), "random": ("#999999", "X")}


@dataclass(frozen=True)
class Method:
    """A method as a comparison names it.

    Attributes:
        name: What it is called, such as ``tamt-kd`` or ``imp``.
        method: The same for a search.
        objective: What the search is told to train for; a one-shot mask has none, and is searched
            for with one that needs no masked-LM head.
        label: What tables and sentences call it.
        style: Colour and marker in figures.
        is_trained: Whether it is no one-shot mask.
        trains_mask: Whether it is mask training.
    """

    name: str
    method: str
    objective: str
    label: str
    style: tuple[str, str]
    is_trained: bool = True
    trains_mask: bool = False

    @property
    def needs_head(self) -> bool:
        """Whether the model needs its pre-trained masked-LM head."""
        return terms_of(self.objective).need_head


def sweep_methods() -> dict[str, Method]:
    """Return every method that a comparison knows, by the name that it has there."""
    found = [
        *(
            Method(f"{TAMT}-{objective}", TAMT, objective, f"{TAMT}-{objective}".upper(),
                   _style(objective), trains_mask=True)
            for objective in objectives()
        ),
        Method(IMP, IMP, IMP_OBJECTIVE, IMP.upper(), _STYLES[IMP]),
        *(
            Method(name, name, headless().name, name, _STYLES[name], is_trained=False)
            for name in ONE_SHOT
        ),
    ]  # fmt: skip
    return {method.name: method for method in found}


def sweep_name(method: str, objective: str | None) -> str:
    """Return method and objective of a ticket in a word, as a comparison names them."""
    return f"{method}-{objective}" if method == TAMT and objective else method


def _style(objective: str) -> tuple[str, str]:
    """Return the colour and marker of a mask training: its term's own, or one of the others."""
    terms = terms_of(objective)
    if len(terms) == 1 and (style := terms[0].style):
        return style
    others = [name for name in objectives() if len(ts := terms_of(name)) > 1 or not ts[0].style]
    return _OF_SUMS[others.index(objective) % len(_OF_SUMS)]
