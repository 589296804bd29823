"""Whether what ONNX takes is installed; imports nothing heavy."""

from __future__ import annotations

import importlib.util

from tamtctl.foundations.errors import UsageError

TO_WRITE = ("onnx", "onnxscript", "onnxruntime")
TO_RUN = ("onnx", "onnxruntime")


def check_installed(packages: tuple[str, ...], what: str) -> None:
    """Refuse what takes packages that are not there.

    Args:
        packages: Their names.
        what: What takes them.

    Raises:
        UsageError: One is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} takes {' and '.join(missing)}: pip install 'tamtctl[onnx]'")
