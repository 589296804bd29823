"""Where derived data (harvested text, token streams) is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: ``TAMTCTL_CACHE``, else ``tamtctl`` in the user's cache folder.

    Like the Hugging Face libraries, the default is ``~/.cache`` (or ``XDG_CACHE_HOME``) on every
    platform. The folder need not exist yet.
    """
    if configured := os.environ.get("TAMTCTL_CACHE"):
        return Path(configured).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tamtctl"
