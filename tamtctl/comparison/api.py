"""The functions of ``compare``: make the runs that a sweep lacks, then measure all masks alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tamtctl.comparison.baselines import found_before
from tamtctl.comparison.ceiling import ceilings
from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.opening import Opened, open_comparison
from tamtctl.comparison.recovered import split_names
from tamtctl.comparison.report import write_report
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.run import measured, measured_beside
from tamtctl.comparison.sections.table import SECTIONS
from tamtctl.comparison.subnetworks import baseline_masks
from tamtctl.comparison.sweep import CompareWatcher, Runs, make_runs
from tamtctl.comparison.sweep_plan import PlannedRun, plan_runs
from tamtctl.comparison.task_seconds import TaskSeconds
from tamtctl.comparison.ticket_labels import short_name
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.public_names import public_model
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.pruning.searching.identity import Identity, comparison_identity, model_identity
from tamtctl.training.run_folder import RUNS, RunFolder


@watched(default_watcher)
def compare(
    config: CompareConfig,
    *,
    output_dir: Path | str | None = None,
    force: bool = False,
    watcher: CompareWatcher | None = None,
) -> Comparison:
    """Compare tickets, or the masks of a sweep, and write the report; missing runs are made first.

    Args:
        config: What to compare.
        output_dir: The report's folder; by default one under ``runs/``.
        force: Rebuild run folders that are damaged, instead of leaving them out, and those whose
            inputs have changed since.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The request, the model, the text or a ticket is refused, or a search fails.

    Example:
        >>> comparison = tamtctl.compare(sweep)
        >>> comparison.measures, (comparison.folder / "report.html").is_file()
        (('mlm', 'kd'), True)
    """
    watcher = watcher or Silent()
    folder = RunFolder(expanded(output_dir or RUNS / _name(config)), config.to_dict())
    folder.finished(force=True)  # raises if the folder holds another comparison
    # Before any work, as a section that a user registered may lack its code.
    finders = {name: section.function("find") for name, section in SECTIONS.items()}
    opened = open_comparison(config, watcher)
    folder = replace(folder, identity=_identity(opened))
    folder.finished(force=force)
    with promising(KEPT):
        runs = make_runs(opened.config, opened.searched, opened.model, force=force, watcher=watcher)
        subnetworks = measured(opened, runs, force=force, watcher=watcher)
        beside = measured_beside(opened, runs)
        trained_on = ceilings(opened, subnetworks, watcher)
    comparison = Comparison(
        config=config,
        model=public_model(opened.model)[0],
        texts=opened.text_facts,
        measures=tuple(subnetworks[0].losses),
        subnetworks=subnetworks,
        beside=beside,
        ceilings=trained_on,
        left_out={str(cell): why for cell, why in runs.left_out.items()},
        notes=list(opened.notes),
        folder=folder.path,
    )
    found = {name: find(comparison, opened) for name, find in finders.items()}
    comparison = replace(comparison, found={n: one for n, one in found.items() if one is not None})
    folder.start()
    watcher.status("drawing the report")
    write_report(comparison)
    return comparison


@watched(default_watcher)
def plan_comparison(
    config: CompareConfig,
    *,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    watcher: CompareWatcher | None = None,
) -> list[PlannedRun]:
    """Return the runs that `compare` would find or make, after the same checks.

    Args:
        config: What to compare.
        shard: Only part i (from 1) of n, as (i, n); None: all runs.
        force: Plan to redo runs that are damaged or whose inputs have changed.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: As by `compare`.

    Example:
        >>> tamtctl.plan_comparison(sweep)  # masks that need no training are no runs
        []
    """
    watcher = watcher or Silent()
    opened = open_comparison(config, watcher)
    tasks = TaskSeconds(opened.config, opened.model, watcher, force)
    planned = plan_runs(opened.config, opened.searched, tasks, shard=shard, watcher=watcher)
    return planned if shard else [*planned, *_planned_tickets(opened, tasks)]


@watched(default_watcher)
def make_part(
    config: CompareConfig,
    *,
    shard: tuple[int, int],
    force: bool = False,
    watcher: CompareWatcher | None = None,
) -> Runs:
    """Make one part of the runs of a sweep, without a report; `compare` puts the parts together.

    Args:
        config: The sweep.
        shard: Part i (from 1) of n, as (i, n).
        force: Rebuild run folders that are damaged, instead of leaving them out.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: As by `compare`.

    Example:
        >>> first = tamtctl.make_part(sweep, shard=(1, 2))  # the other half elsewhere, then compare
    """
    watcher = watcher or Silent()
    opened = open_comparison(config, watcher)
    return make_runs(
        opened.config, opened.searched, opened.model, shard=shard, force=force, watcher=watcher
    )


def _planned_tickets(opened: Opened, tasks: TaskSeconds) -> Iterator[PlannedRun]:
    """Yield the given tickets, their baselines and recovered weights, which tasks are left for."""
    if not opened.config.tasks:
        return
    for at, (method, seed) in itertools.product(opened.uneven_levels, baseline_masks()):
        masks = opened.bench.one_shot(method, seed, at.counts, at.pattern)
        of_seed = "" if seed is None else f", seed {seed}"
        run = PlannedRun(f"{method} at {at.level}{of_seed}")
        if folder := found_before(opened.bench, method, masks, at):
            yield run.scored(tasks, folder)
        else:
            yield replace(run, state="to do", task_seconds=tasks.of_new() or 0.0)
    for label, given in opened.tickets.items():
        yield PlannedRun(label).scored(tasks, given.path)
    for label, recovery in opened.recovered.items():
        yield PlannedRun(label).scored(tasks, None, str(recovery.found.folder))


def _identity(opened: Opened) -> Identity:
    config = opened.config
    others = {
        f"text {label}": f"{text.identity['text']}, {text.identity['sequence_length']} tokens"
        for label, text in opened.bench.texts.items()
        if label
    }
    for one in opened.recovered.values():
        others |= model_identity(str(one.found.folder))
    tickets, _ = split_names(config.tickets)
    return others | comparison_identity(opened.bench.text, config.corpus, tickets, opened.data)


def _name(config: CompareConfig) -> str:
    """Return the name of the report's folder."""
    about = config.tickets or (config.model or str(config.recipe),)
    more = f"-and-{len(about) - 1}-more" if len(about) > 1 else ""
    return f"compare-{folder_name(short_name(about[0]))}{more}-{config.hash}"
