"""Comparing the inputs of a run with the present ones, to name changed inputs and files.

The digest of an input with several files may be followed by those of the files, which tell what
changed. Only the input's own digest decides whether there is a change, so that a renamed file is
none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

_FILES = " of "
_MOST_FILES = 100  # most files whose digests are listed
_MOST_NAMED = 3
_DIGITS = 16


def with_files(digest: str, files: Mapping[str, str]) -> str:
    """Return the digest of an input, followed by the first digits of its files' digests."""
    if not 1 < len(files) <= _MOST_FILES:
        return digest
    return digest + _FILES + json.dumps({name: d[:_DIGITS] for name, d in files.items()})


def changed_inputs(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the names of inputs that differ between two identities, with changed files."""
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
    """Return the digest of an input, and name → digest of its files if listed."""
    if not isinstance(value, str):
        return value, {}
    digest, _, files = value.partition(_FILES + "{")
    try:
        listed = json.loads("{" + files) if files else {}
    except (ValueError, RecursionError):
        listed = {}
    return digest, listed
