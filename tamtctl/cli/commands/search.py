"""``tamtctl search``: find a ticket."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import Given, command
from tamtctl.cli.completion import among
from tamtctl.cli.options import DryRunOption, ForceOption, OutputDirOption
from tamtctl.cli.screen import hush_hub, hush_libraries
from tamtctl.foundations.config import METHOD
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.derived import derived_config
from tamtctl.pruning.recipes import RECIPES

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command(SearchConfig, has_recipe=True)
def search(
    *,
    output: Output,
    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"Preset: {', '.join(RECIPES)}, or a TOML file.",
            rich_help_panel=METHOD,
            autocompletion=among(RECIPES),
        ),
    ] = None,
    given: Given,
    output_dir: OutputDirOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Find a ticket: train a mask over the frozen weights of an encoder on unlabelled text."""
    hush_hub(output)
    # Without --recipe, a GPU decides on the recipe; wrong values are refused before that.
    from_scores = given.pop("from_scores", None)
    config = (
        SearchConfig.from_recipe(recipe or "nano", **given)
        if from_scores is None
        else _derived(from_scores, recipe, given)
    )
    _check_trained(config, given)
    hush_libraries()
    from tamtctl.cli.views.progress import SearchView
    from tamtctl.cli.views.search import show_plan, show_search_result
    from tamtctl.pruning.searching import api as searching

    if recipe is None and from_scores is None:
        recipe, why = searching.default_recipe(config.device, given.get("model"))
        output.note(f"recipe {recipe}: {why}")
        config = SearchConfig.from_recipe(recipe, **given)
    with closing(SearchView(output)) as view:
        if dry_run:
            plan = searching.plan_search(config, output_dir=output_dir, watcher=view)
            show_plan(output, plan)
            output.result(plan.to_dict(), str(plan.run_folder))
            return
        result = searching.search(config, output_dir=output_dir, force=force, watcher=view)
    show_search_result(output, result, config.steps if config.max_minutes else None)
    output.result(result.to_dict(), str(result.ticket))


def _check_trained(config: SearchConfig, given: Given) -> None:
    """Refuse settings of a training that were typed for a method that does not train.

    Recipes, and sweeps of several methods, give them to every method.
    """
    unused = [name for name in ("steps", "learning_rate", "max_minutes") if name in given]
    if unused and not config.is_trained:
        option = unused[0].replace("_", "-")
        raise UsageError(f"--{option} is for methods that train, not for {config.method}")


def _derived(run: str, recipe: str | None, given: Given) -> SearchConfig:
    """Return the configuration of a ticket derived from a run.

    Raises:
        UsageError: More is given than sparsity, precision, device and threads, or no sparsity.
    """
    free = {"sparsity", "precision", "device", "threads"}
    changed = [name for name in given if name not in free]
    if recipe or changed:
        option = (changed or ["recipe"])[0].replace("_", "-")
        raise UsageError(f"--from-scores takes all from that run; leave out --{option}")
    if "sparsity" not in given:
        raise UsageError("--sparsity is needed, too: that of the ticket to derive")
    return derived_config(run, **given)
