"""Loading by transformers: its files are checked before, and its errors become one line."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import logging

from tamtctl.foundations.cache import check_hub_cache
from tamtctl.foundations.errors import ModelError, is_panic, quiet_panics
from tamtctl.foundations.hub_requests import HubRequests
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.untrusted import reason
from tamtctl.models.checkpoint_files import is_lfs_pointer
from tamtctl.models.claims import check_configuration, check_tokenizer, no_more_weights_than
from tamtctl.models.files import CONFIG_FILE, TOKENIZER_FILE, nano_path
from tamtctl.models.sources import not_reachable, reach


def load_by_library(
    from_pretrained: Any, name: str, source: str, revision: str | None, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Call a ``from_pretrained`` of transformers on a model that may be a stranger's.

    Args:
        from_pretrained: The function.
        name: The model as the user named it.
        source: Its folder, or its Hub id.
        revision: Branch, tag or commit on the Hub.
        **options: Further options of the function.

    Returns:
        What was loaded, and the JSON object of the configuration's file.

    Raises:
        ModelError: Whatever went wrong, in one line.
    """
    folder = Path(source) if Path(source).is_dir() else None
    if folder is None:
        check_hub_cache()
    config = reach(name, revision) if folder is None else folder / CONFIG_FILE
    written = check_configuration(name, config)
    check_tokenizer(name, config.with_name(TOKENIZER_FILE))
    try:
        with _without_report(), quiet_panics(), no_more_weights_than(name, folder):
            # By default, transformers would ask on standard input whether to run a stranger's code.
            found = from_pretrained(source, revision=revision, trust_remote_code=False, **options)
            return found, written
    except ModuleNotFoundError as error:
        needed = f"model {name!r} needs the Python package {error.name!r}"
        raise ModelError(_shortage(name, error) or needed) from error
    except ModelError:
        raise
    except Exception as error:  # transformers raises anything from OSError to RuntimeError here
        raise ModelError(_why_not_loaded(name, revision, error)) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ModelError(
            f"model {name!r} has a tokenizer.json that the library cannot read "
            f"({reason(error).rstrip('.:')}); save the tokenizer again"
        ) from error


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from warning of missing weights, which are checked here."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _why_not_loaded(name: str, revision: str | None, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            f"model {name!r} brings Python code of its own, which is never run here; give a model "
            "of an architecture that transformers knows"
        )
    if shortage := _shortage(name, error):
        return shortage
    folder = nano_path() if name == "nano" else expanded(name)
    if folder.is_dir():
        if pointer := next(filter(is_lfs_pointer, sorted(folder.iterdir())), None):
            return (
                f"model folder {name!r} cannot be loaded: {pointer.name} is a pointer of Git LFS, "
                "not the file itself; fetch it (git lfs pull)"
            )
        if "weights_only" in str(error) or "Weights only load failed" in str(error):
            return (
                f"model folder {name!r} cannot be loaded: its weights cannot be read without "
                "running code in them; get or save them as model.safetensors"
            )
        if "no file named" in str(error):
            graph = next(iter(sorted(folder.rglob("*.onnx"))), None)
            has = f"only the ONNX graph {graph.name}" if graph else "no weights"
            return f"model folder {name!r} has {has}; it needs model.safetensors"
        for file in sorted(folder.glob("*.safetensors")):
            if not os.access(file, os.R_OK):  # safetensors reports such a file as missing
                return f"model folder {name!r} cannot be loaded: no permission to read {file}"
        return f"model folder {name!r} cannot be loaded: {reason(error).rstrip('.:')}"
    if hub_error := HubRequests(name, revision).explained(error):
        return not_reachable(name, hub_error)
    return f"model {name!r} of the Hub cannot be loaded: {reason(error).rstrip('.:')}"


def _shortage(name: str, error: Exception) -> str | None:
    """Return the message for a tokenizer that is only a sentencepiece file; None for other errors.

    Without these packages, transformers takes the file for one of tiktoken.
    """
    words = f"{error} {getattr(error, 'name', '')}".lower()
    if not re.search("sentencepiece|tiktoken|protobuf", words):
        return None
    if all(map(_is_installed, ("sentencepiece", "google.protobuf"))):
        return (
            f"the tokenizer of model {name!r} cannot be read: its sentencepiece file is damaged; "
            "fetch it again"
        )
    return (
        f"the tokenizer of model {name!r} is a file of sentencepiece, which takes more packages: "
        "pip install 'tamtctl[sentencepiece]'"
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # its parent package is missing, too
        return False
