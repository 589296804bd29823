"""What is left of a sweep, and how long it will take, run by run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.subnetworks import DENSE
from tamtctl.comparison.sweep import (
    CompareWatcher,
    find_run,
    is_counted_in_seconds,
    known_budget,
    missing_in,
    units_of_sweep,
)
from tamtctl.comparison.task_seconds import TaskSeconds
from tamtctl.foundations.errors import ChangedInputsError, DamagedRunError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import can_follow, plan_search, search_folder
from tamtctl.pruning.searching.result import SearchResult


@dataclass(frozen=True)
class PlannedRun:
    """A subnetwork of a comparison, as planned: its search, its state, and what is left to do.

    Attributes:
        cell: Its name in tables: a cell of the sweep, ``dense``, or a ticket.
        run_folder: The folder of its search; None if it takes none, or is not known yet.
        state: ``done``, ``to do`` or ``damaged``.
        steps: Steps of its search that are left.
        estimated_seconds: Estimated seconds of these steps.
        task_seconds: Estimated seconds of fine-tuning that are left, without scoring.
        part: The part of the sweep that makes it, from 1, if the sweep is split as far as possible.
        parts: The number of these parts.
    """

    cell: str
    run_folder: Path | None = None
    state: str = "done"
    steps: int = 0
    estimated_seconds: float = 0.0
    task_seconds: float = 0.0
    part: int = 1
    parts: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"run_folder": self.run_folder and str(self.run_folder)}

    def scored(self, tasks: TaskSeconds, ticket: Path | None, model: str | None = None) -> Self:
        """Return it with what is left of fine-tuning and scoring it.

        Args:
            tasks: The tasks of the comparison.
            ticket: Its ticket; None: a model as it is.
            model: That model; None: the dense one.
        """
        try:
            left = tasks.left(ticket, model)
        except (DamagedRunError, ChangedInputsError):
            if not tasks.force:
                return replace(self, state="damaged")
            left = tasks.of_new()
        return self if left is None else replace(self, state="to do", task_seconds=left)


def plan_runs(
    config: CompareConfig,
    cells: Sequence[Cell],
    tasks: TaskSeconds,
    *,
    shard: tuple[int, int] | None = None,
    watcher: CompareWatcher,
) -> list[PlannedRun]:
    """Return what `make_runs` would do, with times from a probe of every method and task."""
    pace = _Pace(watcher)
    planned: dict[Cell | None, PlannedRun] = {}
    units = units_of_sweep(config, cells, None)
    part_of = {cell: part for part, unit in enumerate(units, 1) for cell in unit}
    for cell in itertools.chain.from_iterable(units_of_sweep(config, cells, shard)):
        place = PlannedRun(str(cell or DENSE), part=part_of[cell], parts=len(units))
        if cell is None:
            planned[cell] = place.scored(tasks, None)
            continue
        budget = known_budget(config, cell)
        wanted = config.search_config(cell, budget)
        if is_counted_in_seconds(config, cell) and budget is None:
            found, state, folder = None, "to do", None  # its steps follow from the run of imp
        else:
            found, state = _state(config, wanted, force=tasks.force)
            folder = search_folder(wanted)
        run = replace(place, run_folder=folder, state=state)
        if state == "to do" and wanted.is_trained:
            others = (c for c, other in planned.items() if c and other.state != "damaged")
            passed = [c.steps for c in map(config.search_config, others) if can_follow(wanted, c)]
            steps = wanted.steps - max(passed, default=0)
            seconds = steps * pace.of(cell.method, wanted) if steps else 0.0
            run = replace(run, steps=steps, estimated_seconds=seconds)
        if not (cell.allocation or state == "damaged"):  # else no task table has it
            new = replace(run, task_seconds=tasks.of_new() or 0.0)
            run = run.scored(tasks, found.ticket) if found else new
        planned[cell] = run
    return [*planned.values()]


def _state(
    config: CompareConfig, wanted: SearchConfig, *, force: bool
) -> tuple[SearchResult | None, str]:
    """Return the result of a search, if there is one, and the state of its run."""
    try:
        found = find_run(wanted)
    except ChangedInputsError:
        if not force:
            raise
        found = None
    except DamagedRunError:
        return None, "to do" if force else "damaged"
    return found, "to do" if found is None or missing_in(config, wanted, found) else "done"


@dataclass
class _Pace:
    """Seconds of a step of each method, measured when they are first asked for."""

    watcher: CompareWatcher
    known: dict[str, float] = field(default_factory=dict)

    def of(self, method: str, wanted: SearchConfig) -> float:
        if method not in self.known:
            self.watcher.status(f"timing {method}")
            probe = plan_search(wanted)
            self.known[method] = probe.estimated_seconds / probe.steps
        return self.known[method]
