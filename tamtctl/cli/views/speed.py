"""How a measurement of speed looks on a screen: one table, a row for every model and size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamtctl.cli.console import Page, PlainTable
from tamtctl.foundations.counts import count
from tamtctl.foundations.folders import size

if TYPE_CHECKING:
    from tamtctl.comparison.speed.result import BenchResult, Measured
    from tamtctl.foundations.estimates import Interval


def show_bench(output: Page, result: BenchResult) -> None:
    """Print the table of sizes and times, and how far they can be trusted."""
    output.notes.line()
    output.line(
        f"Median of {count(result.rounds, 'round')} in turns ± half the distance of the quartiles; "
        "× dense: the median of the rounds' ratios and its 95 % interval"
    )
    tasks = list(dict.fromkeys(task for row in result.rows for task in row.quality))
    table = PlainTable("model")
    for heading in ("size", "zstd", "load", *tasks):
        table.add_column(heading, justify="right")
    table.add_column("texts × tokens")
    for heading in ("ms", "tokens/s", "× dense"):
        table.add_column(heading, justify="right")
    for row in result.rows:
        told = _of_model(row, tasks)
        for at, one in row.latencies.items():
            ratio = "dense" if row.is_dense else "–" if one.ratio is None else _ratio(one.ratio)
            half = one.spread * one.median / 2
            table.add_row(
                *told,
                str(at),
                f"{one.median * 1e3:.4g} ± {half * 1e3:.2g}",
                f"{row.tokens_per_second(at):,.0f}",
                ratio,
            )
            told = [""] * len(told)  # only the first row of a model says what it is
    output.table(table)
    for row in result.rows:
        for task, why in row.without_quality.items():
            output.notes.line(f"no {task} of {row.name} ({row.backend}): {why}")
    for line in result.notes:
        output.line(f"note: {line}")


def _of_model(row: Measured, tasks: list[str]) -> list[str]:
    """Return the cells that are the same for a model at every size of input."""
    return [
        f"{row.name} ({row.backend})",
        *("–" if bytes_ is None else size(bytes_) for bytes_ in (row.bytes, row.compressed)),
        f"{row.load_seconds:.2f} s",
        *(_score(*row.quality[task]) if task in row.quality else "–" for task in tasks),
    ]


def _score(metric: str, score: float, error: float | None) -> str:
    beside = "" if error is None else f" ± {error:.3f}"
    return f"{score:.3f}{beside} {metric}"


def _ratio(ratio: Interval) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}"
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
