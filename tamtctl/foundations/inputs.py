"""What a run was made of, compared with what is there now: which inputs and files changed.

The digest of an input of several files may be followed by those of the files. These say which one
changed; what counts is the digest of all, so that a file that only has another name is no change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

_FILES = " of "
_MOST_FILES = 100  # that are listed; of more only the digest of all is kept
_MOST_NAMED = 3
_DIGITS = 16


def with_files(digest: str, files: Mapping[str, str]) -> str:
    """Return the digest of an input, followed by the beginnings of those of its files."""
    if not 1 < len(files) <= _MOST_FILES:
        return digest
    return digest + _FILES + json.dumps({name: d[:_DIGITS] for name, d in files.items()})


def changed_inputs(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the names of the inputs that two identities do not share, with the files if known."""
    pairs = {name: (before.get(name), now.get(name)) for name in sorted({**before, **now})}
    split = {name: (_split(one), _split(other)) for name, (one, other) in pairs.items()}
    return [
        name + _named(one[1], other[1])
        for name, (one, other) in split.items()
        if one[0] != other[0]
    ]


def _named(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    if not (before and now):
        return ""
    changed = sorted(f for f in {**before, **now} if before.get(f) != now.get(f))
    more = " …" if len(changed) > _MOST_NAMED else ""
    return f" ({', '.join(changed[:_MOST_NAMED])}{more})" if changed else ""


def _split(value: object) -> tuple[object, Mapping[str, object]]:
    """Return the digest of all, and those of the files if they are there."""
    if not isinstance(value, str):
        return value, {}
    digest, _, files = value.partition(_FILES + "{")
    try:
        listed = json.loads("{" + files) if files else {}
    except (ValueError, RecursionError):
        listed = {}
    return digest, listed
