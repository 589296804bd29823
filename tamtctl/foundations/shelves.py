"""Shelves: light, extensible tables of things that users can name, such as criteria.

A row holds all facts that other code needs, as plain values. Its code is a module that is imported
only when it is used, so that tables load nothing heavy and help texts can list every name.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Generic, TypeVar

from tamtctl.foundations.checks import did_you_mean
from tamtctl.foundations.errors import TamtctlError, UsageError
from tamtctl.foundations.untrusted import reason

LONGEST_NAME = 40
_OWN = "tamtctl."  # begins the names of this package's modules
# Below these folders, classes of other authors are, which a row's code may be derived from.
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something on a shelf.

    Attributes:
        name: Its name on the command line.
        code: The dotted name of the module that defines its functions, or any object that has them.
    """

    name: str
    code: str | object

    @property
    def is_foreign(self) -> bool:
        """Whether the row's code is from a script or another package."""
        code = self.code
        if not isinstance(code, str):  # a module, or an object with functions
            code = str(getattr(code, "__name__", type(code).__module__))
        return not code.startswith(_OWN)

    def function(
        self, name: str, *, gives: type = object, passes: tuple[type[Exception], ...] = ()
    ) -> Callable[..., Any]:
        """Return one of the functions that the row's code defines.

        Args:
            name: The function's name.
            gives: What it returns.
            passes: Errors of foreign code that the caller handles.

        Raises:
            UsageError: The module cannot be imported, or does not define the function. So does a
                function of foreign code that fails or returns something else: the fault is none of
                tamtctl.
        """
        found = self._defined(name)
        if not self.is_foreign or isinstance(found, type):  # a class is derived from, and asked for
            return found

        @wraps(found)
        def named(*args: Any, **options: Any) -> Any:
            with self.blamed(f"{name} of {self.name!r} failed", passes=passes):
                given = found(*args, **options)
            if not isinstance(given, gives):
                raise UsageError(
                    f"{name} of {self.name!r} gives {type(given).__name__}, not {gives.__name__}"
                )
            return given

        return named

    @contextmanager
    def blamed(self, what: str, *, passes: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Let an error of foreign code within this context be one line.

        Args:
            what: Begins the line: what failed, and whose it is.
            passes: Errors that the caller handles.

        Raises:
            UsageError: Foreign code failed; the fault is none of tamtctl.
        """
        expected: tuple[type[Exception], ...] = (TamtctlError, *passes)
        try:
            yield
        except expected:
            raise
        except Exception as error:
            if not self.is_foreign:
                raise
            raise UsageError(
                f"{what}: {type(error).__name__}: {reason(error)}; --debug shows where"
            ) from error

    def _defined(self, name: str) -> Callable[..., Any]:
        found = getattr(self._loaded(), name, None)
        if not callable(found):
            raise UsageError(f"the code of {self.name!r} defines no function {name}")
        return found  # type: ignore[no-any-return]

    def _loaded(self) -> object:
        code = self.code
        if not isinstance(code, str):
            return code
        try:
            return importlib.import_module(code)
        except Exception as error:
            if not (self.is_foreign or isinstance(error, ImportError)):
                raise
            raise UsageError(
                f"the code of {self.name!r}, module {self.code}, cannot be imported: {error}"
            ) from error

    def code_digest(self) -> str:
        """Return the digest of the row's code, whose author may leave its name and version.

        It is that of the whole files, or of the functions if they are in none, as in a notebook.

        Raises:
            UsageError: The module cannot be imported.
        """
        files, typed_in = _source(self._loaded())
        digest = hashlib.sha256(b"".join(typed_in))
        for file in files:
            with suppress(OSError):
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()

    @property
    def is_in_files(self) -> bool:
        """Whether the row's code is in files, so that `code_digest` follows every change of it."""
        files, typed_in = _source(self._loaded())
        return bool(files) and not typed_in


def _source(code: object) -> tuple[list[str], list[bytes]]:
    """Return the files of a row's code, and the code of functions that are in none."""
    named = {name: getattr(code, name, None) for name in sorted(dir(code))}
    classes = (one for name, one in named.items() if inspect.isclass(one) and name != "__class__")
    files = {_file_of(code), _file_of(type(code))}
    typed_in = []
    for one in dict.fromkeys(base for found in classes for base in found.__mro__):
        if own := _file_of(one):
            files |= set() if own.startswith(_INSTALLED) else {own}
        elif one.__module__ == "__main__":
            named |= {f"{one.__qualname__}.{name}": value for name, value in vars(one).items()}
    for name, value in named.items():
        function: Any = inspect.unwrap(value) if callable(value) else value  # of a decorator
        found = getattr(function, "__code__", None)
        if inspect.iscode(found) and Path(found.co_filename).is_file():
            files.add(found.co_filename)
        elif inspect.iscode(found):  # typed in, as in a notebook
            usual = [getattr(function, part, None) for part in ("__defaults__", "__kwdefaults__")]
            typed_in.append(repr((name, _said(found), *map(_said, usual))).encode())
    return sorted(filter(None, files)), typed_in


def _file_of(place: object) -> str:
    """Return the file that defines a module or class; empty if there is none."""
    with suppress(OSError, TypeError):
        return inspect.getsourcefile(place) or ""  # type: ignore[arg-type]
    return ""


def _said(value: object) -> object:
    """Return what a constant or a piece of code is, as every process has it."""
    if inspect.iscode(value):
        return value.co_code, value.co_names, value.co_varnames, _said(value.co_consts)
    if isinstance(value, tuple | list):
        return [_said(one) for one in value]
    if isinstance(value, frozenset | set):
        return sorted(repr(_said(one)) for one in value)
    if isinstance(value, dict):
        return [(name, _said(one)) for name, one in value.items()]
    is_plain = value is None or isinstance(value, int | float | complex | str | bytes)
    return repr(value) if is_plain else type(value).__qualname__  # others show where they lie


RowT = TypeVar("RowT", bound=Row)


class Shelf(Mapping[str, RowT], Generic[RowT]):
    """Name → row, in the order of help texts and tables.

    Args:
        kind: Word for a row in errors.
        rows: Rows that come with the package; others are of the class of the first.
        names: Regular expression of valid names.
        reserved: Regular expression of names that have another meaning on the command line.
    """

    def __init__(
        self,
        kind: str,
        rows: Iterable[RowT],
        *,
        names: str = r"[a-z][a-z0-9]*(-[a-z0-9]+)*",
        reserved: str = "",
    ) -> None:
        self._kind, self._names, self._reserved = kind, re.compile(names), re.compile(reserved)
        self._rows: dict[str, RowT] = {}
        for row in rows:
            self.register(row)

    def __getitem__(self, name: str) -> RowT:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def register(self, row: RowT) -> RowT:
        """Put one more row on the shelf, until the process ends.

        Raises:
            UsageError: It is the row of another shelf, or its name is taken, reserved or invalid.
        """
        of_shelf = type(next(iter(self.values()), row))
        if not isinstance(row, of_shelf):
            raise UsageError(
                f"a {self._kind} is a row of the class {of_shelf.__name__}, not {row!r}"
            )
        name = row.name
        if not isinstance(name, str):
            raise UsageError(f"the name of a {self._kind} is a text, not {name!r}")
        if name in self._rows:
            raise UsageError(
                f"there is a {self._kind} {name!r} already; give the new one another name"
            )
        if self._reserved.fullmatch(name):
            raise UsageError(
                f"a {self._kind} cannot be called {name!r}, a reserved name; give another name"
            )
        if not self.is_name(name):
            plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME]
            hint = f", such as {plain!r}" if self._names.fullmatch(plain) else ""
            raise UsageError(
                f"a {self._kind} cannot be called {name!r}: a name is at most {LONGEST_NAME} lower "
                f"case letters and digits with hyphens between them{hint}"
            )
        self._rows[name] = row
        return row

    def is_name(self, name: str) -> bool:
        """Return whether a row could have this name."""
        return bool(self._names.fullmatch(name)) and len(name) <= LONGEST_NAME

    @contextmanager
    def holding(self, row: RowT) -> Iterator[RowT]:
        """Put a row on the shelf within this context, for tests."""
        self.register(row)
        try:
            yield row
        finally:
            del self._rows[row.name]

    def find(self, name: str) -> RowT:
        """Return the row of a name.

        Raises:
            UsageError: There is no such row; the message lists the names and suggests the nearest.
        """
        if name in self._rows:
            return self._rows[name]
        hint = did_you_mean(name, self)
        raise UsageError(f"there is no {self._kind} {name!r}, only {', '.join(self)}{hint}")
