"""Measuring the losses, flips and task metrics of every subnetwork of a comparison."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from tamtctl.comparison.baselines import saved
from tamtctl.comparison.bench import Bench
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.levels import Level, TicketLevel
from tamtctl.comparison.opening import Opened, OpenedTicket
from tamtctl.comparison.recovered import of_recovered
from tamtctl.comparison.search_log import SearchLog
from tamtctl.comparison.subnetworks import DENSE, Subnetwork, baseline_masks
from tamtctl.comparison.sweep import CompareWatcher, Runs, scored_on
from tamtctl.comparison.task_metrics import TaskMetric
from tamtctl.foundations.working import counted
from tamtctl.pruning.methods import TAMT, TRAINED
from tamtctl.pruning.searching.result import SearchResult
from tamtctl.ticket.packed_masks import PackedMasks
from tamtctl.ticket.ticket import Ticket


def measured(
    opened: Opened, runs: Runs, *, force: bool = False, watcher: CompareWatcher
) -> list[Subnetwork]:
    """Measure every subnetwork of a comparison, the dense model first.

    Args:
        opened: The comparison.
        runs: The searches of its sweep, and their scores on tasks.
        force: Redo fine-tuning runs that are damaged.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: A ticket is of another model or damaged, or fine-tuning fails.
    """
    count = 1 + len(opened.cells) - len(runs.left_out) + len(opened.tickets)
    count += len(opened.uneven_levels) * len(baseline_masks()) + len(opened.recovered)
    watcher.note(f"measuring {count} subnetworks on held-out text …")
    return list(
        counted(_measured(opened, runs, watcher, force=force), "measuring subnetwork", count)
    )


def measured_beside(opened: Opened, runs: Runs) -> list[Subnetwork]:
    """Measure the criteria with the other allocation, in the one loss that decides on it."""
    found = []
    for cell in opened.beside:
        assert cell.allocation is not None
        if cell not in runs.left_out:
            terms = [cell.allocation.objective]
            among = str(cell.allocation) if cell.allocation.criterion else ""
            found.append(_of_cell(opened.bench, cell, runs.searches[cell], among, terms))
    return found


def _measured(
    opened: Opened, runs: Runs, watcher: CompareWatcher, *, force: bool
) -> Iterator[Subnetwork]:
    bench, config = opened.bench, opened.config

    def known(cell: Cell | None) -> dict[str, TaskMetric]:
        return {task: found[cell] for task, found in runs.on_tasks.items() if cell in found}

    def scored(path: Path | None, model: str = opened.model) -> dict[str, TaskMetric]:
        found = (
            (task, scored_on(config, task, model, path, force=force, watcher=watcher))
            for task in config.tasks
        )
        return {task: score for task, score in found if score}

    among = config.among
    yield replace(_dense(bench), metrics=known(None))
    for cell in opened.cells:
        if cell not in runs.left_out:
            one = _of_cell(bench, cell, runs.searches.get(cell), among)
            along = {step: one.along[step] for step in config.at_steps if step in one.along}
            yield replace(one, metrics=known(cell), along=along)
    for level, (method, seed) in itertools.product(opened.uneven_levels, baseline_masks()):
        one = _of_one_shot(bench, method, seed, level)
        assert one.masks is not None
        path = saved(bench, method, one.masks.unpacked(), level) if config.tasks else None
        yield replace(one, path=path, metrics=scored(path))
    for label, given in opened.tickets.items():
        yield replace(_of_ticket(bench, label, given), metrics=scored(given.path))
    for label, recovery in opened.recovered.items():
        one = of_recovered(bench, label, recovery, opened.tickets[recovery.ticket].ticket)
        yield replace(one, metrics=scored(None, str(recovery.found.folder)))


def _dense(bench: Bench) -> Subnetwork:
    losses = bench.losses(None)
    return Subnetwork(
        method=DENSE, found_by=DENSE, objective=None, sparsity=0.0, seed=None, losses=losses
    )


def _of_cell(
    bench: Bench,
    cell: Cell,
    found: SearchResult | None,
    among: str,
    terms: Collection[str] | None = None,
) -> Subnetwork:
    """Return a cell of a sweep, or a one-shot baseline of tickets, as measured.

    Args:
        bench: The model and text to measure on.
        cell: The cell.
        found: The result of its search; None for a one-shot mask without a run of its own.
        among: How its sparsity is spread, if not evenly.
        terms: The terms that are measured; None: all.
    """
    if found is None:
        counts = bench.counts(cell.sparsity)
        at = TicketLevel(Level(cell.sparsity), counts, bench.pattern)
        return _of_one_shot(bench, cell.method, cell.seed, at)
    masks, log = bench.masks_of(Ticket.load(found.ticket)), SearchLog.of(found)
    return Subnetwork(
        method=cell.method,
        found_by=cell.facts.method,
        objective=cell.objective,
        sparsity=cell.sparsity,
        among=among,
        split=found.sparsities if among else {},
        seed=cell.seed,
        losses=bench.losses(masks.unpacked(), terms),
        masks=masks,
        path=found.ticket,
        steps=found.steps,
        seconds=found.seconds,
        calibration_seconds=found.calibration_seconds,
        seconds_at=log.seconds,
        flips=masks.differences(bench.reference(masks.kept, bench.pattern)),
        training=log.training,
        along=log.held_out,
        flipped=log.flips,
        is_unchanged=found.steps > 0 and found.flips == 0,
    )


def _of_one_shot(bench: Bench, method: str, seed: int | None, at: TicketLevel) -> Subnetwork:
    """Return a one-shot mask without a run, as measured at a level of tickets."""
    masks = bench.one_shot(method, seed, at.counts, at.pattern)
    packed = PackedMasks.of(masks)
    return Subnetwork(
        method=method,
        found_by=method,
        objective=None,
        sparsity=at.level.sparsity,
        among=at.level.among,
        seed=seed,
        losses=bench.losses(masks),
        masks=packed,
        steps=0,
        seconds=0.0,
        flips=packed.differences(bench.reference(at.counts, at.pattern)),
    )


def _of_ticket(bench: Bench, label: str, given: OpenedTicket) -> Subnetwork:
    """Return a ticket that was asked for, as measured."""
    ticket, level = given.ticket, given.at.level
    masks = bench.masks_of(ticket)
    is_trained = ticket.method in TRAINED
    return Subnetwork(
        method=label,
        found_by=ticket.method,
        objective=ticket.objective if ticket.method == TAMT else None,
        sparsity=level.sparsity,
        among=level.among,
        seed=None,
        losses=bench.losses(masks.unpacked()),
        masks=masks,
        path=given.path,
        steps=_count(ticket.metrics.get("steps")),
        flips=masks.differences(bench.reference(given.at.counts, given.at.pattern)),
        is_unchanged=is_trained and ticket.metrics.get("flips") == 0,
        is_given=True,
    )


def _count(value: object) -> int | None:
    """Return a number of steps as a ticket states it; None if that is no such number."""
    return value if type(value) is int and value >= 0 else None
