"""What the configurations of all commands share."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")


def plain(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON values."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()}
