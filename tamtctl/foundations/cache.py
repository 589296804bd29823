"""The cache of derived data, and a lock that keeps it from being cleared while it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.locks import shared
from tamtctl.foundations.paths import expanded

# Folder in the cache → what it holds. Everything else in the cache belongs to others.
CACHES: Mapping[str, str] = {
    "corpora": "texts as tokens",
    "statistics": "what criteria learnt of a text",
    "losses": "losses of masks that were measured",
    "scores": "scores of models on tasks without training",
    "python-docs": "the documentation of this Python",
    "digests": "checksums of large files",
    "commits": "the commits of models and datasets of the Hub",
}
IN_USE = ".in-use"  # lock file of the cache


def check_hub_cache() -> None:
    """Raise TamtctlError if the Hub's libraries would cache files in a folder named "~"."""
    from huggingface_hub import constants  # which takes long, and tables of help name the caches

    if constants.HF_HUB_CACHE.startswith("~"):
        raise TamtctlError(
            "there is no home folder for what is fetched from the Hub; set HF_HOME (or HOME) to a "
            "folder that you can write to"
        )


def cache_dir() -> Path:
    """Return the cache folder: ``TAMTCTL_CACHE``, else ``tamtctl`` in the user's cache folder.

    As in the Hugging Face libraries, the user's cache folder is ``XDG_CACHE_HOME`` or ``~/.cache``
    on every platform. The folder need not exist yet.

    Raises:
        TamtctlError: There is no home folder, and no other is named.
    """
    if configured := os.environ.get("TAMTCTL_CACHE"):
        return expanded(configured)
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return expanded(configured) / "tamtctl"
    try:
        return Path.home() / ".cache" / "tamtctl"
    except (RuntimeError, KeyError) as error:  # a user id without a name, as in many containers
        raise TamtctlError(
            "there is no home folder to keep caches in; set TAMTCTL_CACHE (or HOME) to a folder "
            "that you can write to"
        ) from error


def cache_folder(name: str) -> Path:
    """Return the folder of one of the `CACHES`, which need not exist yet.

    Raises:
        TamtctlError: There is no home folder, and no other is named.
    """
    assert name in CACHES
    return cache_dir() / name


def keep_if_possible(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file of the cache; if the disk refuses it, it is made again next time."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file)


@contextmanager
def cache_in_use() -> Iterator[None]:
    """Within this context nobody can clear the cache; several processes may use it.

    If the cache cannot be written, there is no lock, and nothing to clear.
    """
    with ExitStack() as stack:
        with suppress(OSError, TamtctlError):
            cache_dir().mkdir(parents=True, exist_ok=True)
            stack.enter_context(shared(cache_dir() / IN_USE))
        yield
