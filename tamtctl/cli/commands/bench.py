"""``tamtctl bench``: how large and how fast models are."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import Given, command
from tamtctl.cli.screen import hush_hub, hush_libraries
from tamtctl.comparison.speed.config import BenchConfig
from tamtctl.foundations.config import OUTPUT
from tamtctl.foundations.paths import expanded

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command(BenchConfig)
def bench(
    given: Given,
    output: Output,
    figure: Annotated[
        Path | None,
        typer.Option(
            help="Draw the quality of the first --task against latency and size: FILE.png or .svg.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Measure size, load time and latency of models, in turns with runs of the dense one."""
    config = BenchConfig(**given)
    if figure is not None:
        from tamtctl.comparison.speed.figure import check_figure

        figure = expanded(figure)
        check_figure(figure, config.tasks)
    hush_hub(output)
    hush_libraries()
    from tamtctl.cli.views.progress import View
    from tamtctl.cli.views.speed import show_bench
    from tamtctl.comparison.speed import api as benching

    view: View[object]
    with closing(View(output)) as view:
        result = benching.bench(config, watcher=view)
    show_bench(output, result)
    essence = (f"{row.latencies[result.sizes[-1]].median:.6f}" for row in result.rows)
    output.result(result.to_dict(), "\n".join(essence))
    if figure is not None:
        from tamtctl.comparison.speed.figure import save_figure

        save_figure(figure, result, config.tasks[0])
        output.line(f"figure  {figure}")
