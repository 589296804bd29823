"""The figure of a measurement of speed: quality against latency, and against size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tamtctl.comparison.rendering.plotting import legend, panels, render
from tamtctl.comparison.speed.result import BenchResult, Measured
from tamtctl.foundations.errors import TamtctlError, UsageError
from tamtctl.foundations.files import write_whole
from tamtctl.foundations.untrusted import reason
from tamtctl.models.sizes import Size
from tamtctl.ticket import heat_map
from tamtctl.training.run_folder import RECOVERED_MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>"


def check_figure(file: Path, tasks: Sequence[str]) -> None:
    """Check, before any work, that a figure can be drawn.

    Raises:
        UsageError: The file cannot be written, or no task is given.
    """
    heat_map.check_figure(file)
    if not tasks:
        raise UsageError("--figure draws quality against latency: give a --task, too")


def save_figure(file: Path, result: BenchResult, task: str) -> None:
    """Draw quality against the latency at the largest input, and against the size on disk.

    Raises:
        TamtctlError: No model has a quality for the task, or the file cannot be written.
    """
    shown = [row for row in result.rows if task in row.quality]
    if not shown:
        raise TamtctlError(f"no model has a {task} to draw")
    (content,) = render(lambda: _drawn(shown, result.sizes[-1], task), file.suffix[1:].lower())
    try:
        write_whole(file, content)
    except OSError as error:
        raise TamtctlError(f"cannot write {str(file)!r}: {reason(error)}") from error


def _drawn(rows: list[Measured], size: Size, task: str) -> Figure:
    figure, (left, right) = panels(2)
    sized = [row for row in rows if row.bytes is not None]
    places: list[tuple[str, list[Measured], Callable[[Measured], float]]] = [
        (f"ms at {size}", rows, lambda row: row.latencies[size].median * 1e3),
        ("MB on the disk", sized, lambda row: (row.bytes or 0) / 1e6),
    ]
    for axes, (label, those, where) in zip((left, right), places, strict=True):
        for row in those:
            metric, score, error = row.quality[task]
            axes.errorbar(
                where(row),
                score,
                yerr=error,
                marker=_MARKERS[rows.index(row) % len(_MARKERS)],
                linestyle="none",
                capsize=2,
                label=f"{_short(row.name)} {row.backend}",
            )
            axes.set_ylabel(metric if metric == task else f"{task}, {metric}")
        axes.set_xlabel(label)
        # From 0, with room for the outermost marker, however near to each other all are.
        axes.set_xlim(0, 1.08 * max(map(where, those), default=1.0))
    legend(figure, (left, right))
    return figure


def _short(name: str) -> str:
    """Return the last part of a model's name; of a recovered one, the name of its run's folder."""
    path = Path(name)
    return path.parent.name if path.name == RECOVERED_MODEL and path.parent.name else path.name
