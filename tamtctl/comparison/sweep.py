"""Making the runs of a sweep: finished ones are found, the others are made."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.grid import Cell, TimedBudget, units_of_work
from tamtctl.comparison.subnetworks import DENSE
from tamtctl.comparison.task_metrics import TaskMetric
from tamtctl.comparison.task_seconds import TaskSeconds
from tamtctl.comparison.untrained_tasks import measured_on
from tamtctl.foundations.errors import ChangedInputsError, DamagedRunError
from tamtctl.foundations.watching import Watcher
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import asked_together, is_criterion
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.searching.api import (
    can_follow,
    find_search,
    plan_search,
    search,
    search_folder,
)
from tamtctl.pruning.searching.result import SearchPlan, SearchResult
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.result import FinetunePlan, FinetuneResult
from tamtctl.training.run_folder import METRICS, SCORES, write_json

# Is told how the searches and the fine-tuning runs of a comparison go.
CompareWatcher = Watcher[SearchPlan | FinetunePlan]


@dataclass
class Runs:
    """The runs of a sweep.

    Attributes:
        searches: Cell → the result of its search.
        on_tasks: Task → cell (None: the dense model) → the result of fine-tuning, or its score on
            a task without training.
        left_out: Cell → what is wrong with its run folder.
    """

    searches: dict[Cell, SearchResult] = field(default_factory=dict)
    on_tasks: dict[str, dict[Cell | None, FinetuneResult | TaskMetric]] = field(
        default_factory=dict
    )
    left_out: dict[Cell, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "runs": [found.to_dict() for found in self.searches.values()],
            "left_out": {str(cell): why for cell, why in self.left_out.items()},
        }


@dataclass(frozen=True)
class PlannedRun:
    """A subnetwork of a comparison, as planned: its search, its state, and what is left to do.

    Attributes:
        cell: Its name in tables: a cell of the sweep, ``dense``, or a ticket.
        run_folder: The folder of its search; None if it takes none.
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
            return replace(self, state="damaged")
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
    units = _units(config, cells, None)
    part_of = {cell: part for part, unit in enumerate(units, 1) for cell in unit}
    for cell in itertools.chain.from_iterable(_units(config, cells, shard)):
        place = PlannedRun(str(cell or DENSE), part=part_of[cell], parts=len(units))
        if cell is None:
            planned[cell] = place.scored(tasks, None)
            continue
        wanted = config.search_config(cell, _known_budget(config, cell))
        found, state = _state(config, wanted)
        run = replace(place, run_folder=search_folder(wanted), state=state)
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


def _state(config: CompareConfig, wanted: SearchConfig) -> tuple[SearchResult | None, str]:
    """Return the result of a search, if there is one, and the state of its run."""
    try:
        found = _find(wanted)
    except DamagedRunError:
        return None, "damaged"
    return found, "to do" if found is None or _missing(config, wanted, found) else "done"


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


def make_runs(
    config: CompareConfig,
    cells: Sequence[Cell],
    model: str,
    *,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    watcher: CompareWatcher,
) -> Runs:
    """Find or make the runs of a sweep.

    Args:
        config: The comparison.
        cells: The cells of its sweep.
        model: The dense model, which is fine-tuned, too: Hub id, folder or nano.
        shard: Make only part i (from 1) of n.
        force: Rebuild run folders that are damaged, instead of leaving them out.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: A search or fine-tuning fails.
    """
    runs = Runs()
    todo = list(itertools.chain(*_units(config, cells, shard)))
    with asked_together(_criteria(config, todo)):
        for number, cell in enumerate(todo, 1):
            step = f"[{number}/{len(todo)}]"
            if cell is None:
                watcher.note(f"{step} dense model")
                _score(config, runs, None, model, force=force, watcher=watcher)
                continue
            found = _found(config, cell, step, runs, force=force, watcher=watcher)
            if isinstance(found, str):
                runs.left_out[cell] = found
                continue
            runs.searches[cell] = found
            _score(config, runs, cell, model, force=force, watcher=watcher)
    return runs


def _criteria(config: CompareConfig, cells: Sequence[Cell | None]) -> Iterator[str]:
    """Yield the criteria that cells without training need, for orders and for allocations."""
    for cell in filter(None, cells):
        if is_criterion(cell.method):
            yield from (row.name for row in config.search_config(cell).criteria)


def _units(
    config: CompareConfig, cells: Sequence[Cell], shard: tuple[int, int] | None
) -> list[tuple[Cell | None, ...]]:
    """Return the cells that take a run, in groups that can run apart; None is the dense model.

    A one-shot mask that needs no text takes a run only for tasks, which need a ticket on disk,
    and where a criterion that looks at text decides how many weights a matrix keeps.
    """
    take_all = bool(config.tasks) or bool(config.among)
    wanted = [cell for cell in cells if cell.facts.takes_a_run or take_all or cell.allocation]
    units: list[tuple[Cell | None, ...]] = [*units_of_work(wanted)]
    if config.budget == "seconds":  # imp first, as its seconds are the budget
        units.sort(key=lambda unit: unit[0] is not None and unit[0].method != IMP)
    if config.tasks:
        units.append((None,))
    return units if shard is None else units[shard[0] - 1 :: shard[1]]


def _found(
    config: CompareConfig,
    cell: Cell,
    step: str,
    runs: Runs,
    *,
    force: bool,
    watcher: CompareWatcher,
) -> SearchResult | str:
    """Return the result of a cell's search, made if missing, or what is wrong with its folder."""
    try:
        wanted = config.search_config(cell, _budget(config, cell, runs))
    except DamagedRunError as error:
        watcher.note(f"{step} {cell}: {error}")
        return str(error)
    try:
        found = _find(wanted)
    except (ChangedInputsError, DamagedRunError) as error:
        what = error.what if isinstance(error, ChangedInputsError) else None
        if what and not force:
            raise  # without this cell it would be another comparison
        watcher.note(f"{step} {cell}: {what or error}")
        if not force:
            return str(error)
        shutil.rmtree(search_folder(wanted))
        found = None
    if found and (missing := _missing(config, wanted, found)):
        watcher.note(f"{step} {cell}: done before without {missing}; once more")
        return search(wanted, force=True, watcher=watcher)
    watcher.note(f"{step} {cell}: " + ("searching" if found is None else "done before"))
    return found or search(wanted, after=_followed(config, cell, runs), watcher=watcher)


def _find(wanted: SearchConfig) -> SearchResult | None:
    """Return a finished search as `find_search` does, but with a sweep's advice in its error."""
    try:
        return find_search(wanted)
    except ChangedInputsError as error:
        raise ChangedInputsError(
            error.what, "bring back what it was, or make the sweep's runs anew with --force"
        ) from error


def _budget(config: CompareConfig, cell: Cell, runs: Runs) -> TimedBudget | None:
    """Return the budget of a mask training if it is counted in seconds, else None.

    The seconds are those of the run of iterative pruning with the same seed. The steps that fit in
    them are measured once and stored with that run, so that they do not change from run to run.
    """
    file = _budget_file(config, cell)
    if file is None:
        return None
    imp = runs.searches.get(replace(cell, method=IMP))
    if imp is None:
        raise DamagedRunError(f"{cell} has no budget without the run of imp; rebuild it by --force")
    if (known := _known_budget(config, cell)) and known.seconds == imp.seconds:
        return known
    probe = plan_search(config.search_config(cell))
    steps = max(1, round(imp.seconds * probe.steps / probe.estimated_seconds))
    write_json(file, asdict(TimedBudget(imp.seconds, steps)))
    return TimedBudget(imp.seconds, steps)


def _known_budget(config: CompareConfig, cell: Cell) -> TimedBudget | None:
    """Return the stored budget in seconds, None if there is none."""
    file = _budget_file(config, cell)
    if file is None:
        return None
    try:
        return TimedBudget(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _budget_file(config: CompareConfig, cell: Cell) -> Path | None:
    """Return the file that stores the budget of a mask training, in the run folder of imp."""
    if config.budget == "steps" or not cell.facts.trains_mask:
        return None
    equal = config.search_config(cell)
    imp = config.search_config(replace(cell, method=IMP))
    return search_folder(imp) / f"budget-{equal.objective}-{equal.hash}.json"


def _missing(config: CompareConfig, wanted: SearchConfig, found: SearchResult) -> str | None:
    """Return what the comparison needs and a finished search did not keep; None if nothing."""
    if wanted.method != TAMT:
        return None
    if not {step for step in config.at_steps if step <= found.steps} <= losses_along(found).keys():
        return "evaluations on its way"
    if config.keep_scores and not (found.run_folder / SCORES).is_file():
        return "keeping its scores"
    return None


def losses_along(found: SearchResult) -> dict[int, dict[str, float]]:
    """Return step → held-out losses by term, of the evaluations during a search."""
    return {step: one["eval_losses"] for step, one in _log(found).items() if one["eval_losses"]}


def flips_along(found: SearchResult) -> dict[int, float]:
    """Return step → share of the mask that differs from the initial one."""
    return {step: one["flips"] for step, one in _log(found).items()}


def seconds_along(found: SearchResult) -> dict[int, float]:
    """Return step → seconds of training up to it."""
    return {step: one["seconds"] for step, one in _log(found).items()}


def training_losses(found: SearchResult) -> dict[int, dict[str, float]]:
    """Return logged step → mean training losses by term since the logged step before."""
    return {step: one["terms"] for step, one in _log(found).items()}


def _log(found: SearchResult) -> dict[int, dict[str, Any]]:
    """Return step → line of the log of a search; empty if the log cannot be read."""
    try:
        lines = (found.run_folder / METRICS).read_text(encoding="utf-8").splitlines()
        return {one["step"]: one for one in map(json.loads, lines)}
    except (OSError, ValueError, KeyError):
        return {}


def _followed(config: CompareConfig, cell: Cell, runs: Runs) -> SearchResult | None:
    """Return the finished run that the search of a cell can go on from, if there is one."""
    wanted = config.search_config(cell)
    earlier = [
        (other.sparsity, found)
        for other, found in runs.searches.items()
        if can_follow(wanted, config.search_config(other))
    ]
    return max(earlier, key=lambda pair: pair[0])[1] if earlier else None


def _score(
    config: CompareConfig,
    runs: Runs,
    cell: Cell | None,
    model: str,
    *,
    force: bool,
    watcher: CompareWatcher,
) -> None:
    if cell is not None and cell.allocation:  # no task table has it
        return
    ticket = None if cell is None else runs.searches[cell].ticket
    for task in config.tasks:
        found = scored_on(config, task, model, ticket, force=force, watcher=watcher)
        runs.on_tasks.setdefault(task, {})[cell] = found


def scored_on(
    config: CompareConfig,
    task: str,
    model: str,
    ticket: Path | None,
    *,
    force: bool = False,
    watcher: CompareWatcher,
) -> FinetuneResult | TaskMetric:
    """Fine-tune a subnetwork on a task, or measure it on one without training.

    What was done before is found.

    Args:
        config: The comparison.
        task: One of its tasks.
        model: The dense model.
        ticket: The ticket's folder; None: the model as it is.
        force: Redo a run that is damaged, or whose inputs have changed since.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The task, the model or the ticket is refused.
    """
    if config.is_untrained(task):
        return measured_on(config.evaluate_config(task, model, ticket), watcher)
    wanted = config.finetune_config(task, model, ticket)
    try:
        return finetune(wanted, watcher=watcher)
    except (DamagedRunError, ChangedInputsError):
        if not force:
            raise
        return finetune(wanted, force=True, watcher=watcher)
