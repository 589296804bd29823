"""What identifies the code of a script or notebook, whose author may leave its name and version.

Code in files is identified by the whole files. Functions that are typed in, as in a notebook, are
identified by their instructions, their defaults, and what they read of what is typed in beside
them.
"""

from __future__ import annotations

import hashlib
import inspect
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any

# Below these folders lie classes of other authors, which a script's code may be derived from.
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


class SourceCode:
    """Where the code of a module or object is.

    Attributes:
        files: The files of its functions and classes.
        typed_in: Names of what is in no file, and what each of them is.
    """

    def __init__(self, code: object) -> None:
        self.files = {file for file in (_file_of(code), _file_of(type(code))) if file}
        self.typed_in: set[str] = set()
        self._add_all({name: getattr(code, name, None) for name in dir(code)})

    @property
    def is_in_files(self) -> bool:
        """Whether `digest` follows every change of the code."""
        return bool(self.files) and not self.typed_in

    def digest(self) -> str:
        """Return a digest of the code, the same in every process."""
        digest = hashlib.sha256()
        if self.typed_in:
            digest.update(repr(sorted(self.typed_in)).encode())
        for file in sorted(self.files):
            with suppress(OSError):
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()

    def _add_all(self, values: Mapping[str, object], *, with_values: bool = False) -> None:
        for name, value in values.items():
            function = _function_in(value)
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                self._add_function(name, function, code)
            elif inspect.isclass(value) and name != "__class__":
                self._add_class(value)
            elif with_values:
                self.typed_in.add(repr((name, _said(value))))

    def _add_function(self, name: str, function: Any, code: CodeType) -> None:
        if Path(code.co_filename).is_file():
            self.files.add(code.co_filename)
            return
        usual = (getattr(function, part, None) for part in ("__defaults__", "__kwdefaults__"))
        said = repr((name, _said((code, *usual))))
        if said in self.typed_in:
            return  # it reads itself
        self.typed_in.add(said)
        around = getattr(function, "__globals__", {})
        read = {one: around[one] for one in sorted(set(_names(code))) if one in around}
        cells = getattr(function, "__closure__", None) or ()
        for one, cell in zip(code.co_freevars, cells, strict=False):
            with suppress(ValueError):  # not filled yet
                read[one] = cell.cell_contents
        self._add_all(read, with_values=True)

    def _add_class(self, found: type) -> None:
        for one in found.__mro__:
            if file := _file_of(one):
                self.files |= set() if file.startswith(_INSTALLED) else {file}
            elif one.__module__ == "__main__" and (name := one.__qualname__) not in self.typed_in:
                self.typed_in.add(name)
                self._add_all({f"{name}.{part}": value for part, value in vars(one).items()})


def _function_in(value: Any) -> Any:
    """Return the function within a decorator, a property, a class method or a static method."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, classmethod | staticmethod):
        value = value.__func__
    return inspect.unwrap(value) if callable(value) else value


def _file_of(place: object) -> str:
    """Return the file that defines a module or class; empty if there is none."""
    with suppress(OSError, TypeError):
        return inspect.getsourcefile(place) or ""  # type: ignore[arg-type]
    return ""


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that code and the functions within it look up."""
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _names(one)


def _said(value: object) -> object:
    """Return what a value or a piece of code is, as every process has it."""
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, value.co_varnames, _said(value.co_consts)
    if isinstance(value, tuple | list):
        return [_said(one) for one in value]
    if isinstance(value, frozenset | set):
        return sorted(repr(_said(one)) for one in value)
    if isinstance(value, dict):
        return [(repr(_said(name)), _said(one)) for name, one in value.items()]
    is_plain = value is None or isinstance(value, int | float | complex | str | bytes)
    return repr(value) if is_plain else type(value).__qualname__  # others show where they lie
