"""The result of a measurement of size and speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tamtctl.foundations.shown import Shown
from tamtctl.models.sizes import Size
from tamtctl.models.timing import Latency, as_json


@dataclass(frozen=True)
class Measured:
    """A model, measured.

    Attributes:
        name: The model as the user named it.
        backend: ``torch``, or the name of the ONNX file.
        is_dense: Whether it is the dense model, which the others are compared with.
        bytes: Size of its files; None if it is no local folder.
        compressed: Bytes of its files after compression by zstandard; None as above.
        load_seconds: Median seconds of loading, with the files in the disk cache.
        latencies: Size of input → how long a run takes.
        quality: Task → its metric's name, the value, and its standard error or None.
        without_quality: Task → why there is no quality.
        losses_of: Losses among these tasks → their unit and text.
    """

    name: str
    backend: str
    is_dense: bool
    bytes: int | None
    compressed: int | None
    load_seconds: float
    latencies: Mapping[Size, Latency]
    quality: Mapping[str, tuple[str, float, float | None]]
    without_quality: Mapping[str, str]
    losses_of: Mapping[str, str] = field(default_factory=dict)

    def tokens_per_second(self, size: Size) -> float:
        """Return how many tokens a second are processed at a size of input."""
        return size.tokens / self.latencies[size].median

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        latencies = [
            asdict(size) | {"tokens_per_second": self.tokens_per_second(size)} | as_json(one)
            for size, one in self.latencies.items()
        ]
        quality = {
            task: {"metric": metric, "score": score, "standard_error": error}
            for task, (metric, score, error) in self.quality.items()
        }
        return {
            "name": self.name,
            "backend": self.backend,
            "dense": self.is_dense,
            "bytes": self.bytes,
            "compressed": self.compressed,
            "load_seconds": self.load_seconds,
            "latencies": latencies,
            "quality": quality,
            "without_quality": dict(self.without_quality),
        }


@dataclass(frozen=True, repr=False)
class BenchResult(Shown):
    """What a measurement of speed found.

    Attributes:
        rows: The models, the dense one first.
        sizes: The sizes of input.
        rounds: How often each model ran at each size.
        cores: CPU cores of the machine.
        load: The load average of the machine at the start: processes that ran or waited.
        notes: Notes on the measurement, a line each.

    Example:
        >>> measured.rows[0].name  # of tamtctl.bench
        'my-model'
    """

    rows: tuple[Measured, ...]
    sizes: tuple[Size, ...]
    rounds: int
    cores: int
    load: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "models": [row.to_dict() for row in self.rows],
            "rounds": self.rounds,
            "cores": self.cores,
            "load": self.load,
            "notes": list(self.notes),
        }
