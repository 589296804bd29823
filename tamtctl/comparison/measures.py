"""Measures of a comparison, and their names in tables, sentences and files.

A measure is one of these strings: the term of a loss, such as ``mlm``; where tickets were trained
on different texts, a term and its text, ``mlm on FILE``; or a task, for its primary metric.
"""

from __future__ import annotations

from tamtctl.pruning.objectives import TERMS

_ON = " on "


def loss_measure(term: str, text: str) -> str:
    """Return the measure of a loss; ``text`` is empty where there is only one text."""
    return f"{term}{_ON}{text}" if text else term


def term_of(measure: str) -> str:
    """Return the term of a loss; of a task, the task itself."""
    return measure.partition(_ON)[0]


def text_of(measure: str) -> str:
    """Return what a loss is measured on; empty where there is only one text."""
    return measure.partition(_ON)[2]


def is_loss(measure: str) -> bool:
    """Return whether a measure is a loss, and not a metric of a task."""
    return term_of(measure) in TERMS


def unit(measure: str) -> str:
    """Return the unit of a loss."""
    return TERMS[term_of(measure)].unit


def words(measure: str) -> str:
    """Return a measure as a sentence names it."""
    term, on, text = measure.partition(_ON)
    return (TERMS[term].label if is_loss(measure) else term) + on + text


def heading(measure: str) -> str:
    """Return the heading of a loss's column, with its unit."""
    term, on, text = measure.partition(_ON)
    return f"{TERMS[term].label} ({TERMS[term].unit}){on}{text}"


def axis(measure: str) -> str:
    """Return the label of a loss on the axis of a figure."""
    term, _, text = measure.partition(_ON)
    return f"{TERMS[term].axis} ({TERMS[term].unit})" + (f"\non {text}" if text else "")


def upright_axis(measure: str) -> str:
    """Return the same in lines that are no longer than a panel is high."""
    return axis(measure).replace(" (", "\n(", 1)


def column(measure: str, what: str) -> str:
    """Return the name of a loss's column in files: ``mlm_loss``, or ``mlm_loss on FILE``."""
    term, on, text = measure.partition(_ON)
    return f"{term}_{what}{on}{text}"
