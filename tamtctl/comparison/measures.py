"""What a comparison measures, as its tables, sentences and files call it.

A measure is a loss, ``mlm`` or ``kd``; where tickets were trained on different texts, a loss on one
of them, ``mlm on FILE``; or the score of a task, by the task's name.
"""

from __future__ import annotations

from tamtctl.foundations.loss_units import UNITS

__all__ = ["UNITS", "column", "heading", "is_loss", "loss_measure", "term_of", "text_of", "words"]

_WORDS = {"mlm": "MLM loss", "kd": "KD loss"}
_ON = " on "


def loss_measure(term: str, text: str) -> str:
    """Return the measure of a loss; the text is empty where there is only one."""
    return f"{term}{_ON}{text}" if text else term


def term_of(measure: str) -> str:
    """Return ``mlm`` or ``kd``, or the task itself."""
    return measure.partition(_ON)[0]


def text_of(measure: str) -> str:
    """Return what a loss is measured on; empty where there is only one text."""
    return measure.partition(_ON)[2]


def is_loss(measure: str) -> bool:
    """Whether less of it is better."""
    return term_of(measure) in UNITS


def words(measure: str) -> str:
    """Return a measure as a sentence names it."""
    term, on, text = measure.partition(_ON)
    return _WORDS.get(term, term) + on + text


def heading(measure: str) -> str:
    """Return the heading of a loss's column, with its unit."""
    term, on, text = measure.partition(_ON)
    return f"{_WORDS[term]} ({UNITS[term]}){on}{text}"


def column(measure: str, what: str) -> str:
    """Return the name of a loss's column in files: ``mlm_loss``, or ``mlm_loss on FILE``."""
    term, on, text = measure.partition(_ON)
    return f"{term}_{what}{on}{text}"
