"""Where derived data (harvested text, token streams) is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import constants

from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.paths import expanded


def check_hub_cache() -> None:
    """Raise TamtctlError if the Hub's libraries would keep what they fetch in a folder called ~."""
    if constants.HF_HUB_CACHE.startswith("~"):
        raise TamtctlError(
            "there is no home folder for what is fetched from the Hub; set HF_HOME (or HOME) to a "
            "folder that you can write to"
        )


def cache_dir() -> Path:
    """Return the cache folder: ``TAMTCTL_CACHE``, else ``tamtctl`` in the user's cache folder.

    Like the Hugging Face libraries, the default is ``~/.cache`` (or ``XDG_CACHE_HOME``) on every
    platform. The folder need not exist yet.

    Raises:
        TamtctlError: There is no home folder, and no other is named.
    """
    if configured := os.environ.get("TAMTCTL_CACHE"):
        return expanded(configured)
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return expanded(configured) / "tamtctl"
    try:
        return Path.home() / ".cache" / "tamtctl"
    except (RuntimeError, KeyError) as error:  # an id without a name, as in many containers
        raise TamtctlError(
            "there is no home folder to keep caches in; set TAMTCTL_CACHE (or HOME) to a folder "
            "that you can write to"
        ) from error
