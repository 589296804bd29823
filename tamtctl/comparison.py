"""Subnetworks side by side: what a sweep lacks is searched for, then all are measured alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tamtctl.config import SearchConfig
from tamtctl.devices import Compute
from tamtctl.distributed import world
from tamtctl.downstream import TaskScore, fine_tune, score_of
from tamtctl.errors import TicketError, UsageError
from tamtctl.figures import require_plotting
from tamtctl.findings import Comparison, Derived, Difference, Overlaps, StepsToEqual, groups_of
from tamtctl.finetuning import FinetunePlan, FinetuneResult
from tamtctl.heads import fitting_head
from tamtctl.held_out import HeldOutText
from tamtctl.identity import Identity, comparison_identity
from tamtctl.paths import expanded
from tamtctl.public_names import public, public_model
from tamtctl.report import write_report
from tamtctl.runs import RUNS, RunFolder
from tamtctl.scores import masks_from_scores
from tamtctl.searching import SearchPlan
from tamtctl.statistics import Interval, correlation, loss_difference, score_difference
from tamtctl.subnetworks import (
    DENSE,
    Subnetwork,
    baseline_cells,
    dense,
    of_cell,
    of_ticket,
    short_name,
)
from tamtctl.sweep import ONE_SHOT, Cell, CompareConfig
from tamtctl.sweeping import CompareWatcher, PlannedRun, Runs, make_runs, plan_runs
from tamtctl.task_data import open_task
from tamtctl.tasks import find_task
from tamtctl.ticket import Ticket, resolve_ticket
from tamtctl.training import StepReport


class _NoWatcher:
    def status(self, message: str) -> None: ...
    def note(self, message: str) -> None: ...
    def plan(self, plan: SearchPlan) -> None: ...
    def finetune_plan(self, plan: FinetunePlan) -> None: ...
    def progress(self, report: StepReport) -> None: ...


def compare(
    config: CompareConfig,
    *,
    output_dir: Path | None = None,
    force: bool = False,
    watcher: CompareWatcher | None = None,
) -> Comparison:
    """Compare tickets, or a sweep whose missing runs are made first, and write the report.

    Args:
        config: What to compare.
        output_dir: The report's folder; by default one under ``runs/``.
        force: Rebuild run folders that are damaged, instead of leaving them out, and those that
            were made of something else than there is now.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The request, the model, the text or a ticket are refused, matplotlib is
            missing, or a search fails.
    """
    require_plotting("tamtctl compare")
    watcher = watcher or _NoWatcher()
    folder = RunFolder(expanded(output_dir or RUNS / _name(config)), config.to_dict())
    folder.finished(force=True)  # refuses the folder of something else
    opened = open_comparison(config, watcher)
    folder = replace(folder, identity=_identity(opened))
    folder.finished(force=force)
    runs = make_runs(opened.config, opened.cells, opened.model, force=force, watcher=watcher)
    subnetworks = _measured(opened, runs, watcher)
    groups = groups_of(subnetworks)
    comparison = Comparison(
        config=config,
        model=public_model(opened.model)[0],
        corpus=" ".join(map(public, opened.config.corpus)),
        blocks=min(opened.text.limit, len(opened.text.blocks)),
        terms=opened.text.terms,
        subnetworks=subnetworks,
        differences=list(_differences(groups, opened.text.terms, config.tasks)),
        overlaps=_overlaps(config, subnetworks),
        correlations=_correlations(subnetworks, opened.text.terms, config.tasks),
        derived=list(_derived(opened, subnetworks)),
        steps_to_equal=list(_steps_to_equal(config, groups)),
        left_out={str(cell): why for cell, why in runs.left_out.items()},
        folder=folder.path,
    )
    folder.start()
    write_report(comparison)
    return comparison


def plan_comparison(
    config: CompareConfig,
    *,
    shard: tuple[int, int] | None = None,
    watcher: CompareWatcher | None = None,
) -> list[PlannedRun]:
    """Return the runs that `compare` would find or make, after the same checks."""
    watcher = watcher or _NoWatcher()
    opened = open_comparison(config, watcher)
    return plan_runs(opened.config, opened.cells, shard=shard, watcher=watcher)


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
        shard: Which part, from 1, and of how many.
        force: Rebuild run folders that are damaged, instead of leaving them out.
        watcher: Is told how it goes.
    """
    watcher = watcher or _NoWatcher()
    opened = open_comparison(config, watcher)
    return make_runs(
        opened.config, opened.cells, opened.model, shard=shard, force=force, watcher=watcher
    )


@dataclass(frozen=True)
class Opened:
    """A comparison whose request, tickets, model and text have been checked.

    Attributes:
        config: As asked for, with the model and the corpus that it is about.
        cells: Of the sweep; of tickets, their baselines.
        tickets: By the name that they were asked for.
        text: The model and the held-out text.
    """

    config: CompareConfig
    cells: list[Cell]
    tickets: dict[str, Ticket]
    text: HeldOutText

    @property
    def model(self) -> str:
        """What the masks are of."""
        return self.text.encoder.id


def open_comparison(config: CompareConfig, watcher: CompareWatcher) -> Opened:
    """Check a request, and load what it is about; nothing is written but caches.

    Raises:
        TamtctlError: The request, the model, the text or a ticket are refused.
    """
    if world().size > 1:
        raise UsageError("compare runs in one process; spread a sweep over several with --shard")
    tickets = {name: Ticket.load(resolve_ticket(name).path) for name in config.tickets}
    watcher.note("loading the model and the held-out text …")
    opened = _open_tickets(config, tickets) if tickets else _open_sweep(config)
    for note in opened.text.notes:
        watcher.note(note)
    return opened


def _open_sweep(config: CompareConfig) -> Opened:
    search = config.search_config(config.cells()[0])
    text = _open_text(config, search, revision=None)
    config = replace(config, model=search.model, corpus=search.corpus)
    return Opened(config, config.cells(has_head="mlm" in text.terms), {}, text)


def _open_tickets(config: CompareConfig, tickets: Mapping[str, Ticket]) -> Opened:
    first = next(iter(tickets.values()))
    base = first.base_model
    for name, ticket in tickets.items():
        if ticket.base_model.fingerprint != base.fingerprint:
            raise TicketError(
                f"{next(iter(tickets))} is a ticket of {base.id!r}, and {name} one of "
                f"{ticket.base_model.id!r}, with other weights; compare tickets of one model"
            )
    length = config.sequence_length or first.search.get("sequence_length")
    model, revision = (config.model, None) if config.model else first.find_base()
    config = replace(
        config,
        model=model,
        corpus=config.corpus or first.texts("corpus"),
        sequence_length=length,
    )
    sparsities = sorted({ticket.target_sparsity for ticket in tickets.values()})
    cells = baseline_cells(sparsities)
    search = config.search_config(cells[0])
    if config.model == base.id:
        revision = base.revision
    text = _open_text(config, search, revision=revision)
    if text.fingerprint != base.fingerprint:
        raise TicketError(
            f"the tickets are of {base.id!r}, whose weights are not those of model "
            f"{config.model!r}; give their own --model"
        )
    _check_heads(tickets, text)
    return Opened(replace(config, corpus=search.corpus), cells, dict(tickets), text)


def _check_heads(tickets: Mapping[str, Ticket], text: HeldOutText) -> None:
    """Refuse a ticket with a head of another model; the losses are those of the model's own."""
    if "mlm" not in text.terms:
        return
    model = text.encoder.model
    for name, ticket in tickets.items():
        try:
            if ticket.mlm_head is not None:
                fitting_head(ticket.mlm_head, text.objectives["mlm"].head, model)
        except TicketError as error:
            raise TicketError(f"ticket {name!r}: {error}") from error


def _open_text(config: CompareConfig, search: SearchConfig, revision: str | None) -> HeldOutText:
    return HeldOutText.open(
        search.model,
        search.corpus,
        revision=revision,
        held_out=search.held_out,
        text_column=search.text_column,
        sequence_length=search.sequence_length,
        limit=search.evaluation_blocks,
        compute=Compute.choose(search.device, search.precision, search.threads),
    )


def _identity(opened: Opened) -> Identity:
    config = opened.config
    data_dir = Path(config.data_dir) if config.data_dir else None
    data = [open_task(find_task(task), data_dir).identity for task in config.tasks]
    return comparison_identity(opened.text, config.corpus, config.tickets, data)


def _name(config: CompareConfig) -> str:
    """Return the name of the report's folder."""
    about = config.tickets or (config.model or str(config.recipe),)
    more = f"-and-{len(about) - 1}-more" if len(about) > 1 else ""
    return f"compare-{short_name(about[0])}{more}-{config.hash}"


def _measured(opened: Opened, runs: Runs, watcher: CompareWatcher) -> list[Subnetwork]:
    """Measure every subnetwork of a comparison, the dense model first."""
    config, text = opened.config, opened.text

    def scores(found: Mapping[str, FinetuneResult]) -> dict[str, TaskScore]:
        return {task: score_of(result) for task, result in found.items()}

    def of(cell: Cell | None) -> dict[str, FinetuneResult]:
        return {task: found[cell] for task, found in runs.fine_tuned.items()}

    count = 1 + len(opened.cells) - len(runs.left_out) + len(opened.tickets)
    watcher.note(f"measuring {count} subnetworks on held-out text …")
    measured = [replace(dense(text), scores=scores(of(None)))]
    for cell in opened.cells:
        if cell in runs.left_out:
            continue
        one = of_cell(cell, runs.searches.get(cell), text)
        measured.append(replace(one, scores=scores(of(cell))))
    for name, ticket in opened.tickets.items():
        one = of_ticket(name, ticket, text)
        found = {t: fine_tune(config, t, opened.model, one.path, watcher) for t in config.tasks}
        measured.append(replace(one, scores=scores(found)))
    return measured


def _differences(
    groups: Mapping[tuple[str, float], Sequence[Subnetwork]],
    terms: Sequence[str],
    tasks: Sequence[str],
) -> Iterator[Difference]:
    """Yield the differences of every two methods at the same sparsity, one-shot ones aside."""
    for (first, first_group), (second, second_group) in itertools.combinations(groups.items(), 2):
        # What takes more work comes first.
        if first[0] in ONE_SHOT:
            first, first_group, second, second_group = second, second_group, first, first_group
        if first[1] != second[1] or DENSE in (first[0], second[0]) or first[0] in ONE_SHOT:
            continue
        a, b = first_group[0], second_group[0]
        wanted = (a.objective or "mlm").split("+")
        for measure in (*terms, *tasks):
            if measure in terms:
                interval = loss_difference(
                    [one.losses[measure] for one in first_group],
                    [one.losses[measure] for one in second_group],
                )
            else:
                interval = score_difference(
                    [run for one in first_group for run in one.scores[measure].runs],
                    [run for one in second_group for run in one.scores[measure].runs],
                )
            is_headline = (measure in tasks or measure in wanted) and b.method in (
                "magnitude",
                "imp",
            )
            yield Difference(a.label, b.label, a.sparsity, measure, interval, is_headline)


def _overlaps(config: CompareConfig, subnetworks: Sequence[Subnetwork]) -> list[Overlaps]:
    """Return how alike masks are: within each sparsity of a sweep, or of all tickets."""
    masked = [one for one in subnetworks if one.ticket]
    sparsities: list[float | None] = [*sorted(config.sparsities)] or [None]
    groups = [
        (sparsity, [one for one in masked if sparsity in (None, one.sparsity)])
        for sparsity in sparsities
    ]
    return [Overlaps.of(sparsity, group) for sparsity, group in groups if len(group) > 1]


def _derived(opened: Opened, subnetworks: Sequence[Subnetwork]) -> Iterator[Derived]:
    """Yield the tickets that the kept scores give, beside those of a search of their own."""
    if not opened.config.keep_scores:
        return
    text = opened.text
    reached = {name: weight.cpu() for name, weight in text.frozen.items()}
    trained = [one for one in subnetworks if one.ticket and one.ticket.method == "tamt"]
    for one, own in itertools.permutations(trained, 2):
        if (one.method, one.seed) != (own.method, own.seed) or one.path is None:
            continue
        masks = masks_from_scores(one.path.parent, reached, own.sparsity)
        losses = text.losses(masks)
        for term in (one.objective or "").split("+"):
            cost = loss_difference([losses[term]], [own.losses[term]])
            yield Derived(
                one.label, one.seed, one.sparsity, own.sparsity, term, losses[term].mean, cost
            )


def _steps_to_equal(
    config: CompareConfig, groups: Mapping[tuple[str, float], Sequence[Subnetwork]]
) -> Iterator[StepsToEqual]:
    for (_, sparsity), group in groups.items():
        rivals = groups.get(("imp", sparsity))
        for one in group:
            if not (rivals and one.along and one.objective in ("mlm", "kd")):
                continue
            term = one.objective
            loss = float(np.mean([rival.losses[term].mean for rival in rivals]))
            good = [s for s in config.at_steps if s in one.along and one.along[s][term] <= loss]
            first = min(good, default=None)
            steps = rivals[0].steps or 0
            yield StepsToEqual(one.label, sparsity, one.seed, term, loss, steps, first)


def _correlations(
    subnetworks: Sequence[Subnetwork], terms: Sequence[str], tasks: Sequence[str]
) -> dict[str, dict[str, Interval | None]]:
    """Return how each task's score goes with each loss, over all subnetworks but the dense one."""
    masked = [one for one in subnetworks if one.ticket]
    return {
        task: {
            term: correlation(
                [one.losses[term].mean for one in masked],
                [one.scores[task].scores.mean for one in masked],
            )
            for term in terms
        }
        for task in tasks
    }
