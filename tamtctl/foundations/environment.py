"""Facts about the machine for bug reports."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys

import torch
from huggingface_hub.constants import HF_HUB_CACHE

from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.clearing import amount_in
from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.folders import size

_PACKAGES = (
    "torch", "transformers", "datasets", "tokenizers", "huggingface-hub", "safetensors", "numpy",
    "torchmetrics", "zstandard",
    "typer", "rich",
)  # fmt: skip


def env() -> dict[str, str]:
    """Return what a bug report needs: versions, device, threads, caches.

    Returns:
        Name → value, all of them short texts without secrets.

    Example:
        >>> tamtctl.env()["tamtctl"] == tamtctl.__version__
        True
    """
    facts = _machine()
    facts["python"] += f" ({sys.executable})"
    return facts | {"cache": _cache(), "hub cache": HF_HUB_CACHE} | _versions()


def published_env() -> dict[str, str]:
    """Return what results may depend on, without paths on this machine."""
    return _machine() | _versions()


def _machine() -> dict[str, str]:
    return {
        "tamtctl": importlib.metadata.version("tamtctl"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "cuda": _cuda(),
        "mps": "available" if torch.backends.mps.is_available() else "not available",
    }


@functools.cache  # reading the files of all packages takes a tenth of a second
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _cache() -> str:
    try:
        cache = cache_dir()
        return f"{cache} ({size(amount_in(cache.resolve()).bytes)})"
    except (TamtctlError, OSError) as error:
        return f"none: {error}"


def _cuda() -> str:
    if not torch.cuda.is_available():
        return "not available"
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"{torch.version.cuda} ({names})"
