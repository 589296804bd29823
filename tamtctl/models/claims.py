"""Checks of a model's files for claims that would take too much memory or time to load.

A configuration of a few bytes can ask for a billion layers, and a tokenizer can make a text a
thousand times longer. A folder may come from a stranger, so both are checked before loading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.untrusted import show

_MAX_CONFIG_BYTES = 2**24
_MAX_TOKENIZER_BYTES = 2**28
_MOST_LAYERS = 10_000
_MOST_LABELS = 1_000_000
_MOST_GROWTH = 1000  # factor by which a tokenizer's replacements may lengthen a text
_NEW_WEIGHTS = 2**22  # of a new head, which the checkpoint does not hold
_MOST_WEIGHTS = 2**36  # of a model on the Hub, whose files are not here yet

_NAMED = ("problem_type", "dtype", "torch_dtype")  # keys whose value is a name
# Last word of a key → largest value: configuration classes build a list or dictionary of this size.
_LISTED = {"layers": _MOST_LAYERS, "layer": _MOST_LAYERS, "labels": _MOST_LABELS}


def check_configuration(name: str, file: Path) -> dict[str, Any]:
    """Refuse a configuration that would fill the memory as soon as it is read, or return it.

    Raises:
        ModelError: The file is too large, asks for more layers or classes than any encoder has, or
            gives a number or the like where a name belongs, which transformers takes as it is.
    """
    document = _read(name, file, _MAX_CONFIG_BYTES)
    classes = document.get("architectures") or []
    are_names = isinstance(classes, list) and all(isinstance(one, str) for one in classes)
    wrong = [] if are_names else ["architectures"]
    wrong += [key for key in _NAMED if not isinstance(document.get(key), str | None)]
    if wrong:
        raise ModelError(
            f"model {name!r} cannot be loaded: {wrong[0]} of its {file.name} is "
            f"{show(document[wrong[0]])}; give a sound checkpoint"
        )
    for key, value in _numbers(document):
        most = _LISTED.get(key.rpartition("_")[2], math.inf)
        if value > most:
            raise ModelError(
                f"model {name!r} cannot be loaded: its {file.name} says {key}: {value:g}, more "
                f"than any encoder has; give a sound checkpoint"
            )
    return document


def check_tokenizer(name: str, file: Path) -> None:
    """Refuse a tokenizer whose replacements could make a text too long for the memory.

    Raises:
        ModelError: The file is too large, or its replacements lengthen a text too much.
    """
    if not file.is_file():
        return
    document = _read(name, file, _MAX_TOKENIZER_BYTES)
    growth = 1.0
    for step in _steps(document.get("normalizer")):
        growth *= max(1.0, _growth(step))
    if growth > _MOST_GROWTH:
        raise ModelError(
            f"model {name!r} cannot be loaded: the replacements in its {file.name} let a text grow "
            f"more than {_MOST_GROWTH} times; save the tokenizer that belongs to it"
        )


def stored_bytes(folder: Path) -> int:
    """Return the bytes of the weights in a model's folder."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def no_more_weights_than(name: str, folder: Path | None) -> Iterator[None]:
    """Within this context, refuse to build a model with more weights than its folder has bytes.

    transformers builds a model without memory for its weights before it loads them.
    """
    limit = _MOST_WEIGHTS if folder is None else stored_bytes(folder) + _NEW_WEIGHTS
    made = 0

    def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal made
        made += 0 if tensor is None else tensor.numel()
        if made > limit:
            raise ModelError(
                f"model {name!r} cannot be loaded: its config.json claims a model of more weights "
                "than its files hold: a file is cut short, or the config.json is of another model; "
                "fetch it again"
            )

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read(name: str, file: Path, limit: int) -> dict[str, Any]:
    """Return a JSON object; empty if it is not valid JSON, which its own reader reports later."""
    try:
        document = json.loads(read_regular(file, limit))
    except OSError as error:
        raise ModelError(
            f"model {name!r} cannot be loaded: {file.name}: {error.strerror}"
        ) from error
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _numbers(inner, name)
        case int() | float() if not isinstance(value, bool):
            yield key, value


def _steps(normalizer: Any) -> Iterator[dict[str, Any]]:
    if isinstance(normalizer, dict):
        yield normalizer
        for inner in normalizer.get("normalizers") or []:
            yield from _steps(inner)


def _growth(step: dict[str, Any]) -> float:
    """Return the largest factor by which a step can lengthen a text."""
    if step.get("type") != "Replace":
        return 1.0
    pattern, content = step.get("pattern"), str(step.get("content", ""))
    text = str(pattern.get("String", "")) if isinstance(pattern, dict) else ""
    return len(content) / len(text) if text else len(content) + 1.0
