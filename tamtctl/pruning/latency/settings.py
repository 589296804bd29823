"""The settings of a search for a latency; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from tamtctl.foundations.checks import at_least, require
from tamtctl.foundations.config import METHOD, setting

BACKENDS = TORCH, ONNX = "torch", "onnx"
# The size at which models run when their latency is measured, by default.
USUAL_SIZE = {"latency_batch": 32, "latency_length": 128, "latency_threads": 1}
# The settings that are for a latency alone.
OF_A_LATENCY = (*USUAL_SIZE, "latency_backend")


def latency() -> Any:
    """Return the setting of the wanted latency."""
    return setting(
        default=None,
        help="Instead of --sparsity: how long the exported model takes, as a share of the dense "
        "model's time. How many neurons or heads that leaves is measured before the search.",
        more="Both run in turns on the CPU of this machine; what is exported in the end is "
        "measured again.",
        panel=METHOD,
        check=lambda option, value: require(option, 0 < value < 1, "above 0 and below 1", value),
        before=None,
    )


def size_of_latency(name: str, what: str) -> Any:
    """Return a setting of the size at which a latency is measured.

    Args:
        name: The setting's name.
        what: What it counts, at the start of its help, such as ``CPU threads``.
    """
    return setting(
        default=None,
        help=f"{what} for --latency; by default {USUAL_SIZE[name]}.",
        panel=METHOD,
        check=at_least(1),
        before=None,
    )


def backend_of_latency() -> Any:
    """Return the setting of what runs the models whose latency is measured."""
    return setting(
        default=None,
        help="What runs the models for --latency, torch or onnx; by default torch. With onnx, both "
        "run as graphs in ONNX Runtime.",
        panel=METHOD,
        choices=BACKENDS,
        before=None,
    )
