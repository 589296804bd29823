"""Public names of models and texts in a ticket, and their private paths on this machine.

A ticket may be published, and must not show paths of its maker's disk. So ``ticket.json`` names a
local folder or file by its last part alone, and a folder of the Hub's cache by its id and commit.
The paths are kept in ``local.json`` beside it, which is not part of the format and never sent; with
it, a ticket finds its model again on this machine.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import UsageError

LOCAL_FILE = "local.json"

# Settings of a search that may be paths: single ones, and several.
_ONE, _SEVERAL = ("model", "init", "from_scores"), ("corpus", "held_out", "check_corpus")
_NAMES = ("nano", "python-docs")  # model and corpus that come with tamtctl, never paths

_MAX_LOCAL_BYTES = 2**20
_SNAPSHOT = re.compile(r"models--(?P<repo>[^/\\]+)[/\\]snapshots[/\\](?P<commit>[0-9a-f]{40})")


@dataclass(frozen=True)
class LocalPaths:
    """The paths on this machine behind the public names in a ticket.

    Attributes:
        model: The folder of the base model; None if it has a public name.
        texts: Setting of the search → its files, folders and Hub ids as given; only settings with
            at least one path.
    """

    model: str | None = None
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: str, search: Mapping[str, Any]) -> LocalPaths:
        """Return the paths among the names that a search was given."""
        texts = {name: texts_of(search, name) for name in _SEVERAL}
        return cls(
            model if _is_path(model) else None,
            {name: given for name, given in texts.items() if any(map(_is_path, given))},
        )

    @classmethod
    def read(cls, folder: Path, fingerprint: str) -> LocalPaths:
        """Return the places in ``local.json`` beside a ticket; empty if it is not this ticket's.

        Args:
            folder: The ticket's folder.
            fingerprint: Fingerprint of its base model.
        """
        try:
            path = folder / LOCAL_FILE
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_LOCAL_BYTES:
                return cls()
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["fingerprint"] != fingerprint:  # written for an earlier ticket in this folder
                return cls()
            model, texts = values.get("model"), values.get("texts", {})
            return cls(
                None if model is None else _found(model, folder),
                {n: tuple(_found(t, folder) for t in texts[n]) for n in _SEVERAL if n in texts},
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def to_json(self, folder: Path, fingerprint: str) -> str | None:
        """Return the content of ``local.json`` beside a ticket; None if there are no paths.

        A relative path is written in two forms: relative to the ticket, for a project that is moved
        as a whole, and absolute, for a ticket that is copied out of its project.
        """
        if self.model is None and not self.texts:
            return None
        values = {
            "fingerprint": fingerprint,
            "model": self.model and _from(self.model, folder),
            "texts": {
                n: [_from(text, folder) for text in given] for n, given in self.texts.items()
            },
        }
        return json.dumps(values, indent=2, sort_keys=True) + "\n"


def public_model(name: str) -> tuple[str, str | None]:
    """Return the public name of a model, and its commit if the name contains it.

    ``nano`` and Hub ids stay as they are; a snapshot in the Hub's cache becomes its repository and
    commit; any other folder is named by its last part.
    """
    if not _is_path(name):
        return name, None
    path = os.path.abspath(_expanded(name))  # noqa: PTH100, Path.absolute keeps ".."
    if (match := _SNAPSHOT.search(path)) and match.end() == len(path):
        return match["repo"].replace("--", "/"), match["commit"]
    return _last_part(path), None


def public(source: str) -> str:
    """Return the public name of a text or a ticket: the last part of a path."""
    if not _is_path(source):
        return source
    folder, name = os.path.split(os.path.abspath(_expanded(source)))  # noqa: PTH100
    return _last_part(folder if name == "ticket" else name)  # the run's name is better


def public_search(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search's configuration with names instead of paths."""
    values = dict(search)
    for name in _ONE:
        if isinstance(values.get(name), str):
            value = values[name]
            values[name] = public_model(value)[0] if name == "model" else public(value)
    for name in _SEVERAL:
        if isinstance(values.get(name), list | tuple):
            values[name] = [public(s) if isinstance(s, str) else s for s in values[name]]
    return values


def texts_of(search: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the texts that a search was given; empty if the record is not as a search writes it.

    Args:
        search: A record of the search, which is not trusted.
        name: ``corpus``, ``held_out`` or ``check_corpus``.
    """
    value = search.get(name)
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, list | tuple) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    return ()


def split_base_model(declared: str) -> tuple[str, str | None]:
    """Return id and revision of ``org/name`` or ``org/name@revision``.

    Raises:
        UsageError: The name is not of that form.
    """
    match = re.fullmatch(r"(\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(\w[\w./-]*))?", declared, re.ASCII)
    if not match or len(match[1]) > 96:
        raise UsageError(
            f"--base-model is a model's id on the Hub, org/name or org/name@revision, "
            f"got {declared!r}"
        )
    return match[1], match[2]


def _is_path(name: str) -> bool:
    """Whether a name is a path: it exists, or it cannot be anything else."""
    if name in _NAMES:
        return False
    if os.path.exists(_expanded(name)):  # noqa: PTH110, Path.exists raises for what is too long
        return True
    return name.startswith(("/", "~", ".", "\\")) or bool(re.match(r"[A-Za-z]:[\\/]", name))


def _expanded(name: str) -> str:
    return os.path.expanduser(name)  # noqa: PTH111, Path.expanduser raises for an unknown user


def _last_part(path: str) -> str:
    """Return the last part of a path as a line of printable text."""
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "root"
    name = name.encode("utf-8", "backslashreplace").decode()
    return (
        "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in name).strip() or "?"
    )


def _from(path: str, folder: Path) -> str | dict[str, str]:
    """Return a path as it is written into ``local.json`` in a ticket's folder."""
    if not os.path.exists(_expanded(path)):  # noqa: PTH110, a Hub id beside files
        return path
    absolute = os.path.abspath(_expanded(path))  # noqa: PTH100
    if os.path.isabs(path) or path.startswith("~"):  # noqa: PTH117
        return absolute
    try:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    except ValueError:  # on another drive
        return absolute
    return {"relative": os.path.join(os.curdir, relative), "absolute": absolute}  # noqa: PTH118


def _found(place: object, folder: Path) -> str:
    """Return a path that `_from` wrote, for use from the working directory.

    The form relative to the ticket comes first, then the absolute one.
    """
    if isinstance(place, dict):
        moved = _from_here(str(place["relative"]), folder)
        is_there = os.path.exists(moved)  # noqa: PTH110
        return moved if is_there else str(place["absolute"])
    path = str(place)
    is_relative = path.startswith((os.curdir + os.sep, os.pardir + os.sep))
    return _from_here(path, folder) if is_relative else path


def _from_here(path: str, folder: Path) -> str:
    there = os.path.normpath(os.path.join(os.path.realpath(folder), path))  # noqa: PTH118
    here = os.path.relpath(there)
    return there if here.startswith(os.pardir) else here
