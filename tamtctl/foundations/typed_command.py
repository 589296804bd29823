"""A configuration as a command line, with which a report says how it was made."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tamtctl.foundations.config import Config, Setting, settings_of
from tamtctl.foundations.public_names import public


def typed_command(command: str, config: Config) -> str:
    """Return the command line of a configuration, without paths of this machine.

    Args:
        command: The name of the command.
        config: The configuration; settings with their default are left out.
    """
    words = ["tamtctl", command]
    for name, one in settings_of(type(config)).items():
        value = getattr(config, name)
        if one.facts.typed and value != one.default and value is not None:
            words += _words(one, value)
    return shlex.join(words)


def _words(one: Setting, value: Any) -> Iterator[str]:
    typed = one.facts.typed
    assert typed is not None
    option, values = f"--{one.option}", value if isinstance(value, tuple) else (value,)
    told = [_told(each) for each in values]
    if typed.is_argument:
        yield from told
    elif isinstance(value, bool):
        yield option if value else f"--no-{one.option}"
    elif typed.between_commas:
        yield from (option, ",".join(told))
    else:
        for each in told:
            yield from (option, each)


def _told(value: Any) -> str:
    """Return a value as it is typed: the last part of a path elsewhere, the name of a recipe."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(getattr(value, "name", value))
    is_elsewhere = Path(text).is_absolute() or ".." in Path(text).parts or text.startswith("~")
    return public(text) if is_elsewhere else text
