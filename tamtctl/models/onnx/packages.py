"""Checks that the packages for ONNX are installed; imports nothing heavy."""

from __future__ import annotations

import importlib.util

from tamtctl.foundations.errors import UsageError

TO_WRITE = ("onnx", "onnxscript", "onnxruntime")
TO_RUN = ("onnx", "onnxruntime")


def check_installed(packages: tuple[str, ...], what: str) -> None:
    """Refuse a request if packages that it needs are missing.

    Args:
        packages: Names of the packages.
        what: What needs them; an error begins with it.

    Raises:
        UsageError: A package is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} takes {' and '.join(missing)}: pip install 'tamtctl[onnx]'")
