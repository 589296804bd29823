"""Subnetworks side by side: what a sweep lacks is searched for, then all are measured alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tamtctl.comparison.baselines import saved
from tamtctl.comparison.config import Cell, CompareConfig
from tamtctl.comparison.intervals import (
    RankCorrelation,
    Spread,
    loss_difference,
    rank_correlation,
    score_difference,
    too_few_examples,
    too_few_sequences,
)
from tamtctl.comparison.measures import term_of
from tamtctl.comparison.opening import Opened, open_comparison
from tamtctl.comparison.report import write_report
from tamtctl.comparison.result import (
    Comparison,
    Derived,
    Difference,
    Groups,
    Overlaps,
    StepsToEqual,
    groups_of,
    same_masks,
)
from tamtctl.comparison.subnetworks import (
    DENSE,
    ONE_SHOT_MASKS,
    Subnetwork,
    dense,
    of_cell,
    of_one_shot,
    of_ticket,
)
from tamtctl.comparison.sweep import CompareWatcher, PlannedRun, Runs, make_runs, plan_runs
from tamtctl.comparison.task_metrics import TaskScore, fine_tune, score_notes, score_of
from tamtctl.comparison.ticket_labels import short_name
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.public_names import public_model
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, default_watcher
from tamtctl.foundations.working import counted, watched
from tamtctl.pruning.identity import Identity, comparison_identity
from tamtctl.pruning.methods import IMP, ONE_SHOT, TAMT
from tamtctl.pruning.objectives import TERMS
from tamtctl.pruning.trained.kept_scores import masks_from_scores
from tamtctl.tasks.finetuning.run import FinetuneResult
from tamtctl.tasks.labelled.opening import open_task
from tamtctl.tasks.registry import find_task
from tamtctl.training.run_folder import RUNS, RunFolder


@watched(default_watcher)
def compare(
    config: CompareConfig,
    *,
    output_dir: Path | str | None = None,
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
        TamtctlError: The request, the model, the text or a ticket are refused, or a search fails.
    """
    watcher = watcher or Silent()
    folder = RunFolder(expanded(output_dir or RUNS / _name(config)), config.to_dict())
    folder.finished(force=True)  # refuses the folder of something else
    opened = open_comparison(config, watcher)
    folder = replace(folder, identity=_identity(opened))
    folder.finished(force=force)
    with promising(KEPT):
        runs = make_runs(opened.config, opened.cells, opened.model, force=force, watcher=watcher)
        subnetworks = _measured(opened, runs, watcher)
    groups = groups_of(subnetworks)
    measures = tuple(subnetworks[0].losses)
    comparison = Comparison(
        config=config,
        model=public_model(opened.model)[0],
        texts=opened.text_facts,
        measures=measures,
        subnetworks=subnetworks,
        differences=list(_differences(groups, measures, config.tasks)),
        overlaps=_overlaps(config, subnetworks),
        identical=list(_identical(subnetworks)),
        correlations=_correlations(groups, measures, config.tasks),
        derived=list(_derived(opened, subnetworks)),
        steps_to_equal=list(_steps_to_equal(config, groups)),
        left_out={str(cell): why for cell, why in runs.left_out.items()},
        notes=list(opened.notes),
        score_notes=list(_score_notes(config, subnetworks)),
        folder=folder.path,
    )
    folder.start()
    write_report(comparison)
    return comparison


@watched(default_watcher)
def plan_comparison(
    config: CompareConfig,
    *,
    shard: tuple[int, int] | None = None,
    watcher: CompareWatcher | None = None,
) -> list[PlannedRun]:
    """Return the runs that `compare` would find or make, after the same checks."""
    watcher = watcher or Silent()
    opened = open_comparison(config, watcher)
    return plan_runs(opened.config, opened.cells, shard=shard, watcher=watcher)


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
        shard: Which part, from 1, and of how many.
        force: Rebuild run folders that are damaged, instead of leaving them out.
        watcher: Is told how it goes.
    """
    watcher = watcher or Silent()
    opened = open_comparison(config, watcher)
    return make_runs(
        opened.config, opened.cells, opened.model, shard=shard, force=force, watcher=watcher
    )


def _identity(opened: Opened) -> Identity:
    config = opened.config
    data_dir = Path(config.data_dir) if config.data_dir else None
    data = [open_task(find_task(task), data_dir).identity for task in config.tasks]
    others = {
        f"text {label}": f"{text.identity['text']}, {text.identity['sequence_length']} tokens"
        for label, text in opened.texts.items()
        if label
    }
    return others | comparison_identity(opened.text, config.corpus, config.tickets, data)


def _name(config: CompareConfig) -> str:
    """Return the name of the report's folder."""
    about = config.tickets or (config.model or str(config.recipe),)
    more = f"-and-{len(about) - 1}-more" if len(about) > 1 else ""
    return f"compare-{folder_name(short_name(about[0]))}{more}-{config.hash}"


def _measured(opened: Opened, runs: Runs, watcher: CompareWatcher) -> list[Subnetwork]:
    """Measure every subnetwork of a comparison, the dense model first."""
    config, texts = opened.config, opened.texts

    def scores(found: Mapping[str, FinetuneResult]) -> dict[str, TaskScore]:
        return {task: score_of(result) for task, result in found.items()}

    def of(cell: Cell | None) -> dict[str, FinetuneResult]:
        return {task: found[cell] for task, found in runs.fine_tuned.items()}

    def with_scores(one: Subnetwork, path: Path | None) -> Subnetwork:
        found = {t: fine_tune(config, t, opened.model, path, watcher) for t in config.tasks}
        return replace(one, scores=scores(found))

    def measured() -> Iterator[Subnetwork]:
        yield replace(dense(texts), scores=scores(of(None)))
        for cell in opened.cells:
            if cell in runs.left_out:
                continue
            one = of_cell(cell, runs.searches.get(cell), texts)
            along = {step: one.along[step] for step in config.at_steps if step in one.along}
            yield replace(one, scores=scores(of(cell)), along=along)
        for level, (method, seed) in itertools.product(levels, ONE_SHOT_MASKS):
            one = of_one_shot(method, seed, level, texts)
            if config.tasks and one.ticket:
                one = replace(one, path=saved(one.ticket))
            yield with_scores(one, one.path)
        for label, given in opened.tickets.items():
            one = of_ticket(label, given.path, given.ticket, given.at, texts)
            yield with_scores(one, one.path)

    levels = opened.uneven_levels
    count = 1 + len(opened.cells) - len(runs.left_out) + len(opened.tickets)
    count += len(levels) * len(ONE_SHOT_MASKS)
    watcher.note(f"measuring {count} subnetworks on held-out text …")
    return list(counted(measured(), "measuring subnetwork", count))


def _differences(
    groups: Groups, measures: Sequence[str], tasks: Sequence[str]
) -> Iterator[Difference]:
    """Yield the differences of every two methods at the same level, one-shot ones aside."""
    for (_, first), (_, second) in itertools.combinations(groups.items(), 2):
        # What takes more work comes first.
        pair = sorted((first, second), key=lambda group: _rank(group[0]))
        a, b = pair[0][0], pair[1][0]
        if a.level != b.level or DENSE in (a.method, b.method) or _is_one_shot(a):
            continue
        wanted = {term for one in (a, b) for term in _trained_for(one, measures)}
        if not b.is_given:
            wanted = set(_trained_for(a, measures))
        is_told = b.is_given or b.method in ("magnitude", IMP)
        digests = {one.ticket.masks_digest for group in pair for one in group if one.ticket}
        for measure in (*measures, *tasks):
            if measure in measures:
                losses = [[one.losses[measure] for one in group] for group in pair]
                interval = loss_difference(*losses)
            else:
                runs = [
                    [run for one in group for run in one.scores[measure].runs] for group in pair
                ]
                interval = score_difference(*runs)
            is_headline = is_told and (measure in tasks or term_of(measure) in wanted)
            yield Difference(
                a.label, b.label, a.level, measure, interval, is_headline, len(digests) == 1
            )


def _trained_for(one: Subnetwork, measures: Sequence[str]) -> list[str]:
    """Return the losses that tell how a mask does at what it was made for."""
    terms = [term_of(measure) for measure in measures]
    wanted = (one.objective or terms[0]).split("+")
    return [term for term in wanted if term in terms] or terms[:1]


def _is_one_shot(one: Subnetwork) -> bool:
    return not one.is_given and one.method in ONE_SHOT


def _rank(one: Subnetwork) -> int:
    """Return how much work a mask takes, the least last; a ticket is what a comparison is about."""
    if one.is_given or one.method not in (IMP, *ONE_SHOT):
        return 0
    return (IMP, *ONE_SHOT).index(one.method) + 1


def _identical(subnetworks: Sequence[Subnetwork]) -> Iterator[str]:
    """Say which masks are one and the same, and which search changed nothing."""
    told = set()
    for group in same_masks(subnetworks).values():
        if len(group) > 1:
            names = [one.name for one in group]
            told.update(names)
            kept = "the search changed nothing" if any(o.is_unchanged for o in group) else ""
            yield (
                f"{', '.join(names[:-1])} and {names[-1]} at {group[0].level} are one and the same "
                "mask" + (f": {kept}" if kept else "")
            )
    for one in subnetworks:
        if one.is_unchanged and one.name not in told:
            yield (
                f"{one.name} at {one.level} is the mask that its search started from: "
                "the search changed nothing"
            )


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
    trained = [one for one in subnetworks if one.ticket and one.ticket.method == TAMT]
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


def _score_notes(config: CompareConfig, subnetworks: Sequence[Subnetwork]) -> Iterator[str]:
    for task in config.tasks:
        scores = {
            one.name if one.method == DENSE else f"{one.name} at {one.level}": one.scores[task]
            for one in subnetworks
        }
        yield from score_notes(task, scores)


def _steps_to_equal(config: CompareConfig, groups: Groups) -> Iterator[StepsToEqual]:
    for (_, level), group in groups.items():
        rivals = groups.get((IMP, level))
        for one in group:
            term = one.objective
            if not (rivals and one.along and term is not None and term in TERMS):
                continue
            loss = float(np.mean([rival.losses[term].mean for rival in rivals]))
            good = [
                step
                for step, losses in one.along.items()
                if losses[term] <= loss and one.flipped.get(step) != 0
            ]
            why = too_few_sequences(one.losses[term])
            if one.is_unchanged:
                why = "none is told, for the mask is still the one it started from"
            steps = rivals[0].steps or 0
            first = None if why else min(good, default=None)
            yield StepsToEqual(one.label, level.sparsity, one.seed, term, loss, steps, first, why)


def _correlations(
    groups: Groups, measures: Sequence[str], tasks: Sequence[str]
) -> dict[str, dict[str, RankCorrelation]]:
    """Return how each task's score goes with each loss over the methods of a level."""
    masked = {key: group for key, group in groups.items() if group[0].ticket}
    found: dict[str, dict[str, RankCorrelation]] = {}
    for task, measure in itertools.product(tasks, measures):
        points: dict[str, dict[str, tuple[float, float]]] = {}
        seen = set()
        for (method, level), group in sorted(masked.items(), key=lambda item: item[0][1]):
            masks = (level, *(one.ticket.masks_digest for one in group if one.ticket))
            if masks in seen:  # of one mask under two names there is but one point
                continue
            seen.add(masks)
            loss = Spread.of([one.losses[measure].mean for one in group]).mean
            score = Spread.of([one.scores[task].scores.mean for one in group]).mean
            points.setdefault(str(level), {})[method] = (loss, score)
        one = next(iter(masked.values()))[0]
        why = too_few_sequences(one.losses[measure]) or too_few_examples(one.scores[task].runs)
        found.setdefault(task, {})[measure] = rank_correlation(points, why_none=why)
    return found
