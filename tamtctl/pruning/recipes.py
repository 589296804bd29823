"""Recipes: the named presets of a search, and TOML files of its settings."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.pruning.methods import METHODS


def _nano(method: str, objective: str, sparsity: float) -> dict[str, Any]:
    """The embedded model on the embedded text: about a minute on two cores.

    Iterative pruning has the rate that suits it best: of eight from 5e-5 to 1.6e-2, with a cut
    every 30 steps, its ticket at 0.7 had the lowest held-out loss with 8e-3 (5.49; 6.48 with the
    5e-5 of the paper, whose intervals are a hundred times as long).

    The denser the mask, the better is the magnitude mask that it starts from: fewer weights must
    change sides. With a rate that suits 0.8, a search at 0.5 flips needlessly many, and what they
    gain on its own text they lose on any other.
    """
    settings = {
        "model": "nano",
        "corpus": ("python-docs",),
        "steps": 240,
        "batch_size": 16,
        "sequence_length": 128,
        "learning_rate": 1e-3 * max(sparsity, 0.1) ** 2,
        "dropout": False,
    }
    if method == "imp":  # 320 steps to sparsity 0.9
        settings |= {"prune_every": 40, "learning_rate": 8e-3}
    return settings


def _paper(method: str, objective: str, sparsity: float) -> dict[str, Any]:
    """BERT-base on WikiText-103 with the hyperparameters of TAMT's code (appendix A)."""
    settings = {
        "model": "bert-base-uncased",
        "corpus": ("Salesforce/wikitext:wikitext-103-raw-v1",),
        "steps": _paper_steps(sparsity),
        "schedule_epochs": 2.0,
        "batch_size": 16,
        "sequence_length": 512,
        "learning_rate": 5e-5,
    }
    if method == "imp":
        settings |= {"prune_every": 2792, "schedule_epochs": None}
    if objective == "kd":
        settings |= {
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "adam_epsilon": 1e-6,
            "bias_correction": False,
            "clip": "per-tensor",
        }
    return settings


def _paper_steps(sparsity: float) -> int:
    """The checkpoint the paper fine-tunes, interpolated between the sparsities it lists."""
    listed = {0.2: 3, 0.3: 6, 0.4: 8, 0.5: 11, 0.6: 14, 0.7: 17, 0.8: 20, 0.9: 22}  # thousands
    points = sorted(listed.items())
    if sparsity <= points[0][0]:
        return points[0][1] * 1000
    for (low, steps_low), (high, steps_high) in itertools.pairwise(points):
        if sparsity <= high:
            share = (sparsity - low) / (high - low)
            return round(1000 * (steps_low + share * (steps_high - steps_low)))
    return points[-1][1] * 1000


RECIPES: dict[str, Callable[[str, str, float], dict[str, Any]]] = {"nano": _nano, "paper": _paper}


_Values = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A TOML file of `SearchConfig` values, as it was when it was read.

    Attributes:
        name: The file, as the user called it.
        base: The recipe it builds on, which it may name as ``recipe``.
        values: Its values.
        by_method: Method → the values in its table, such as ``[imp]``.
    """

    name: str
    base: str
    values: _Values
    by_method: dict[str, _Values]

    @classmethod
    def read(cls, name: str, kind: type) -> Self:
        """Read a recipe file.

        Args:
            name: The file.
            kind: The dataclass of the values that it may hold.

        Raises:
            UsageError: There is none, it is not TOML, or a value is refused.
        """
        path = expanded(name)
        if not path.is_file():
            one_of("recipe", name, RECIPES | {"FILE.toml": None})
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
            raise UsageError(f"recipe file {name!r} is not readable TOML: {error}") from error
        base = values.pop("recipe", "nano")
        one_of("recipe", base, RECIPES)
        tables = {method: values.pop(method) for method in METHODS if method in values}
        by_method = {method: _checked_values(name, table, kind) for method, table in tables.items()}
        for method, table in by_method.items():
            if table.get("method", method) != method:
                raise UsageError(f"recipe file {name!r}: [{method}] cannot be for another method")
        for key in ("prune_every", "rewind"):
            if key in values and values.get("method") != "imp":
                raise UsageError(
                    f"recipe file {name!r}: {key} is for one method; put it into a table [imp]"
                )
        return cls(name, base, _checked_values(name, values, kind), by_method)

    def __str__(self) -> str:
        return self.name


def _checked_values(file: str, values: object, kind: type) -> _Values:
    if not isinstance(values, dict):
        raise UsageError(f"recipe file {file!r}: the name of a method is for a table, like [imp]")
    types = {field.name: str(field.type) for field in fields(kind)}
    checked = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"recipe file {file!r} has an unknown key {name!r}{hint}")
        if name in checked:
            raise UsageError(f"recipe file {file!r} has {name} twice; say it once")
        checked[name] = _checked(file, name, value, types[name])
    return checked


def _checked(file: str, key: str, value: Any, declared: str) -> Any:
    """Return a TOML value as the field's type, or say which type it should have had."""
    if declared == "tuple[int, ...]":
        value = (value,) if type(value) is int else value
        if isinstance(value, list | tuple) and all(type(item) is int for item in value):
            return tuple(value)
    elif declared.startswith("tuple"):
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif declared.startswith("float") and type(value) in (int, float):
        return float(value)
    elif type(value).__name__ == declared.removesuffix(" | None"):
        return value
    raise UsageError(f"recipe file {file!r}: {key} must be {declared}, got {value!r}")
