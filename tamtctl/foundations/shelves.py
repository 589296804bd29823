"""Shelves: light, extensible tables of things that users can name, such as criteria.

A row holds all facts that other code needs, as plain values. Its code is a module that is imported
only when it is used, so that tables load nothing heavy and help texts can list every name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar

from tamtctl.foundations.checks import did_you_mean
from tamtctl.foundations.code_digests import SourceCode
from tamtctl.foundations.errors import TamtctlError, UsageError
from tamtctl.foundations.untrusted import reason

LONGEST_NAME = 40
_OWN = "tamtctl."  # begins the names of this package's modules


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
        """Return the digest of the row's code; see `tamtctl.foundations.code_digests`.

        Raises:
            UsageError: The module cannot be imported.
        """
        return SourceCode(self._loaded()).digest()

    @property
    def is_in_files(self) -> bool:
        """Whether the row's code is in files, so that `code_digest` follows every change of it."""
        return SourceCode(self._loaded()).is_in_files


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
