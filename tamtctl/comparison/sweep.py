"""Making the runs of a sweep: finished ones are found, the others are made."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.grid import Cell, TimedBudget, units_of_work
from tamtctl.comparison.search_log import SearchLog
from tamtctl.comparison.task_metrics import TaskMetric, metric_of
from tamtctl.comparison.tasks_without_training import measured_on
from tamtctl.foundations.errors import ChangedInputsError, DamagedRunError, DivergedError
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
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.result import FinetunePlan
from tamtctl.training.run_folder import RESULT, SCORES, write_json

# Is told how the searches and the fine-tuning runs of a comparison go.
CompareWatcher = Watcher[SearchPlan | FinetunePlan]


@dataclass
class Runs:
    """The runs of a sweep.

    Attributes:
        searches: Cell → the result of its search.
        on_tasks: Task → cell (None: the dense model) → its score, after fine-tuning unless the task
            takes none; a cell is missing if its training diverged.
        left_out: Cell → what is wrong with its run folder.
    """

    searches: dict[Cell, SearchResult] = field(default_factory=dict)
    on_tasks: dict[str, dict[Cell | None, TaskMetric]] = field(default_factory=dict)
    left_out: dict[Cell, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "runs": [found.to_dict() for found in self.searches.values()],
            "left_out": {str(cell): why for cell, why in self.left_out.items()},
        }


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
    todo = list(itertools.chain(*units_of_sweep(config, cells, shard)))
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


def units_of_sweep(
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
    if config.tasks:  # first, as a wrong setting shows before hours of searches
        units.insert(0, (None,))
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
        found = find_run(wanted)
    except (ChangedInputsError, DamagedRunError) as error:
        what = error.what if isinstance(error, ChangedInputsError) else None
        if what and not force:
            raise  # without this cell it would be another comparison
        watcher.note(f"{step} {cell}: {what or error}")
        if not force:
            return str(error)
        shutil.rmtree(search_folder(wanted))
        found = None
    if found and (missing := missing_in(config, wanted, found)):
        watcher.note(f"{step} {cell}: done before without {missing}; once more")
        return search(wanted, force=True, watcher=watcher)
    watcher.note(f"{step} {cell}: " + ("searching" if found is None else "done before"))
    return found or search(wanted, after=_followed(config, cell, runs), watcher=watcher)


def find_run(wanted: SearchConfig) -> SearchResult | None:
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
    if known := known_budget(config, cell):
        return known
    probe = plan_search(config.search_config(cell))
    steps = max(1, round(imp.seconds * probe.steps / probe.estimated_seconds))
    write_json(file, asdict(TimedBudget(imp.seconds, steps)))
    return TimedBudget(imp.seconds, steps)


def known_budget(config: CompareConfig, cell: Cell) -> TimedBudget | None:
    """Return the stored budget in seconds of the present run of imp, None if there is none."""
    file = _budget_file(config, cell)
    if file is None:
        return None
    try:
        known = TimedBudget(**json.loads(file.read_text(encoding="utf-8")))
        imp = json.loads((file.parent / RESULT).read_text(encoding="utf-8"))
        return known if imp["seconds"] == known.seconds else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_counted_in_seconds(config: CompareConfig, cell: Cell) -> bool:
    """Return whether a cell's training takes as many seconds as iterative pruning."""
    return config.budget != "steps" and cell.facts.trains_mask


def _budget_file(config: CompareConfig, cell: Cell) -> Path | None:
    """Return the file that stores the budget of a mask training, in the run folder of imp."""
    if not is_counted_in_seconds(config, cell):
        return None
    equal = config.search_config(cell)
    imp = config.search_config(replace(cell, method=IMP))
    return search_folder(imp) / f"budget-{equal.objective}-{equal.hash}.json"


def missing_in(config: CompareConfig, wanted: SearchConfig, found: SearchResult) -> str | None:
    """Return what the comparison needs and a finished search did not keep; None if nothing."""
    if wanted.method != TAMT:
        return None
    at_steps = {step for step in config.at_steps if step <= found.steps}
    if not at_steps <= SearchLog.of(found).held_out.keys():
        return "evaluations on its way"
    if config.keep_scores and not (found.run_folder / SCORES).is_file():
        return "keeping its scores"
    return None


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
        found = scored_on(
            config, task, model, ticket, is_dense=cell is None, force=force, watcher=watcher
        )
        if found:
            runs.on_tasks.setdefault(task, {})[cell] = found


def scored_on(
    config: CompareConfig,
    task: str,
    model: str,
    ticket: Path | None,
    *,
    is_dense: bool = False,
    force: bool = False,
    watcher: CompareWatcher,
) -> TaskMetric | None:
    """Fine-tune a subnetwork on a task, or measure it on one without training.

    What was done before is found. None if the training of a subnetwork diverges, which others do
    not suffer for.

    Args:
        config: The comparison.
        task: One of its tasks.
        model: The dense model, or recovered weights.
        ticket: The ticket's folder; None: the model as it is.
        is_dense: Whether it is the dense model, without whose score there is no comparison.
        force: Redo a run that is damaged, or whose inputs have changed since.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The task, the model or the ticket is refused, or the training of the dense
            model diverges.
    """
    if config.is_without_training(task):
        return measured_on(config.evaluate_config(task, model, ticket), watcher)
    wanted = config.finetune_config(task, model, ticket)
    try:
        return _fine_tuned(wanted, force=force, watcher=watcher)
    except DivergedError as error:
        what = str(error).replace("--learning-rate", "--task-learning-rate")
        if is_dense:
            raise DivergedError(f"{task}: {what}") from error
        watcher.note(f"{task}: {what}; it goes on without this score")
        return None


def _fine_tuned(wanted: FinetuneConfig, *, force: bool, watcher: CompareWatcher) -> TaskMetric:
    try:
        return metric_of(finetune(wanted, watcher=watcher))
    except (DamagedRunError, ChangedInputsError):
        if not force:
            raise
        return metric_of(finetune(wanted, force=True, watcher=watcher))
