"""What the shell proposes where a name is to be typed; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tamtctl.foundations.config import Names, Setting

# What was typed so far → what it may become.
Completer = Callable[[str], list[str]]


def among(names: Names) -> Completer:
    """Return a completer of these names; if they are a function, each completion calls it."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(incomplete, _known(names))

    return complete


def completer(setting: Setting) -> Completer | None:
    """Return a completer of a setting's value, or of the last of several; None without names."""
    facts = setting.facts
    if not facts.choices and not facts.proposed:
        return None
    are_joined = bool(facts.typed and facts.typed.between_commas)

    def complete(incomplete: str) -> list[str]:
        names = [*_known(facts.completed or facts.choices), *_known(facts.proposed)]
        if not are_joined:
            return _beginning(incomplete, names)
        before, comma, last = incomplete.rpartition(",")  # what is before the last comma is kept
        left = [name for name in names if name not in before.split(",")]
        return [before + comma + name for name in _beginning(last, left)]

    return complete


def _known(names: Names) -> Iterable[str]:
    return names() if callable(names) else names


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
