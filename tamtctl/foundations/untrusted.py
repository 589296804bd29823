"""Parsing untrusted files: values are checked for type and size, or refused.

Whatever a file holds, the only exception is `Defect`, with one line that is safe to print.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from safetensors import SafetensorError, deserialize

from tamtctl.foundations.errors import TicketError

# Limits far above any real ticket.
MAX_WEIGHTS = 2**34
MAX_JSON_DEPTH = 32

_LONGEST_SHOWN = 200  # most characters of a value in an error
MAX_NAME_LENGTH = 256

_NAME = re.compile(r"[A-Za-z0-9]\w*(\.\w+)*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


class Defect(TicketError):  # noqa: N818, an error is what it becomes once the folder is known
    """A defect of a ticket, raised where its folder is not known yet."""


class Fields:
    """A JSON object with typed access; a missing or wrong value raises `Defect` with its place."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._values)

    def section(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self.plain(name), f"{self._where}: {show_name(name)}")

    def plain(self, name: str) -> dict[str, Any]:
        """Return a nested object as a dictionary."""
        return dict(self._get(name, "an object", lambda value: isinstance(value, dict)))

    def text(self, name: str) -> str:
        """Return one line of text without control characters."""
        return str(self._get(name, "a line of printable text", _is_line))

    def optional_text(self, name: str) -> str | None:
        """Return one line of text, or None if it is null."""
        return None if self._values.get(name, "") is None else self.text(name)

    def sha256(self, name: str) -> str:
        """Return a SHA-256 in hex."""
        return str(self._get(name, "a SHA-256 in hex", _is_sha256))

    def time(self, name: str) -> str:
        """Return an ISO 8601 time with its zone."""
        return str(self._get(name, "an ISO 8601 time with its zone", _is_time))

    def integer(self, name: str, least: int = 0, most: int = 2**63) -> int:
        """Return an integer from ``least`` to ``most``."""
        wanted = f"an integer from {least} to {most}"
        return int(self._get(name, wanted, lambda value: _is_integer(value, least, most)))

    def share(self, name: str) -> float:
        """Return a number from 0 to 1."""
        return float(self._get(name, "a number from 0 to 1", _is_share))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, of positive sizes."""
        return tuple(self._get(name, "a list of positive integers", _is_shape))

    def _get(self, name: str, wanted: str, good: Callable[[Any], bool]) -> Any:
        if name not in self._values:
            raise Defect(f"{self._where}: {show_name(name)} is missing")
        value = self._values[name]
        if not good(value):
            found = f"{show_name(name)} must be {wanted}, not {show(value)}"
            raise Defect(f"{self._where}: {found}")
        return value


def check_name(name: str, where: str) -> None:
    """Raise TicketError unless ``name`` is a parameter's plain dotted name."""
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise Defect(f"{where}: {show(name)} is not the name of a parameter")


def parse_json_object(content: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object from an unknown source.

    Raises:
        TicketError: The content is not UTF-8, not JSON or not an object; or has a duplicate key,
            NaN, infinity, half a surrogate pair, a huge integer or deep nesting, on which JSON
            readers differ.
    """
    try:
        document = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except Defect as error:
        raise Defect(f"{where}: {error}") from error
    except RecursionError as error:
        raise Defect(f"{where}: nested more than {MAX_JSON_DEPTH} deep") from error
    except ValueError as error:  # bad UTF-8, bad JSON, an integer of thousands of digits
        raise Defect(f"{where} is damaged: {reason(error)}") from error
    if not isinstance(document, dict):
        raise Defect(f"{where}: must hold a JSON object")
    check_plain(document, where)
    return document


def check_plain(value: Any, where: str, depth: int = 0) -> None:
    """Raise TicketError unless ``value`` consists of plain finite JSON values, not too deep."""
    if depth > MAX_JSON_DEPTH:
        raise Defect(f"{where}: nested more than {MAX_JSON_DEPTH} deep")
    match value:
        case None | bool():
            good = True
        case int():
            good = abs(value) <= 2**64
        case float():
            good = math.isfinite(value)
        case str():
            good = not _HALF_SURROGATE.search(value)
        case list() | tuple():
            good = True
            for item in value:
                check_plain(item, where, depth + 1)
        case dict():
            good = all(isinstance(key, str) for key in value)
            for key, item in value.items():
                check_plain(key, where, depth + 1)
                check_plain(item, where, depth + 1)
        case _:
            good = False
    if not good:
        raise Defect(f"{where}: {show(value)} is no plain JSON value")


@dataclass(frozen=True)
class RawTensor:
    """A tensor as a safetensors file holds it.

    Attributes:
        dtype: The type's name in the file, such as ``U8``, ``F32`` or ``BF16``.
        shape: The shape of the tensor.
        data: Its bytes, little-endian and in row-major order.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytearray | memoryview


def parse_safetensors(content: bytes, where: str, header_limit: int) -> dict[str, RawTensor]:
    """Parse a safetensors file; the library checks all lengths against the content.

    Args:
        content: The whole file.
        where: Its name, for errors.
        header_limit: Most bytes of its header, which has names and offsets of tensors.

    Raises:
        TicketError: The file is damaged.
    """
    if (header := int.from_bytes(content[:8], "little")) > header_limit:
        raise Defect(f"{where} is damaged: a header of {header} bytes, more than {header_limit}")
    try:
        # The library returns tensors in no fixed order.
        found = sorted(deserialize(content))  # type: ignore[no-untyped-call]
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise Defect(f"{where} is damaged: {reason(error)}") from error
    return {n: RawTensor(t["dtype"], tuple(t["shape"]), t["data"]) for n, t in found}


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise Defect("a key occurs twice in the same object")
    return result


def _refuse_constant(name: str) -> None:
    raise Defect(f"{name} is no JSON number")


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_integer(value: Any, least: int, most: int) -> bool:
    # In Python, a bool is an int.
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 8
        and all(_is_integer(size, 1, MAX_WEIGHTS) for size in value)
    )


def _is_time(value: Any) -> bool:
    try:
        return _is_line(value) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def show(value: Any) -> str:
    """Return a short form of an untrusted value, on one line of ASCII."""
    text = reprlib.repr(value).encode("ascii", "backslashreplace").decode()
    # reprlib limits each level of a value, not the whole text.
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def show_name(name: str) -> str:
    """Return a plain name as it is, any other as `show` does."""
    return name if _NAME.fullmatch(name) else show(name)


def reason(error: BaseException) -> str:
    """Return the first line of another library's message, made printable."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(str(error)) or type(error).__name__


def first_line(text: str) -> str:
    """Return the first line of a text that is not blank, cut to 200 characters and printable."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]
    return "".join(character if character.isprintable() else "?" for character in line)
