"""Subnetworks side by side: what a sweep lacks is searched for, then all are measured alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tamtctl.baselines import saved
from tamtctl.config import SearchConfig
from tamtctl.devices import Compute
from tamtctl.distributed import world
from tamtctl.downstream import TaskScore, fine_tune, score_of
from tamtctl.errors import CorpusError, TicketError, UsageError
from tamtctl.figures import require_plotting
from tamtctl.findings import (
    Comparison,
    Derived,
    Difference,
    Groups,
    Overlaps,
    StepsToEqual,
    TextFacts,
    groups_of,
    same_masks,
)
from tamtctl.finetuning import FinetunePlan, FinetuneResult
from tamtctl.heads import fitting_head
from tamtctl.held_out import HeldOutText
from tamtctl.identity import Identity, comparison_identity
from tamtctl.levels import TicketLevel, levels_of, notes_on_levels
from tamtctl.measures import term_of
from tamtctl.paths import expanded, folder_name
from tamtctl.public_names import public, public_model
from tamtctl.report import write_report
from tamtctl.runs import RUNS, RunFolder
from tamtctl.scores import masks_from_scores
from tamtctl.searching import SearchPlan
from tamtctl.statistics import (
    RankCorrelation,
    Spread,
    loss_difference,
    rank_correlation,
    score_difference,
    too_few_examples,
    too_few_sequences,
)
from tamtctl.subnetworks import (
    DENSE,
    LABELS,
    ONE_SHOT_MASKS,
    Subnetwork,
    Texts,
    baseline_cells,
    dense,
    of_cell,
    of_one_shot,
    of_ticket,
)
from tamtctl.sweep import ONE_SHOT, SWEEP_METHODS, Cell, CompareConfig
from tamtctl.sweeping import CompareWatcher, PlannedRun, Runs, make_runs, plan_runs
from tamtctl.task_data import open_task
from tamtctl.tasks import find_task
from tamtctl.ticket import Ticket, resolve_ticket
from tamtctl.ticket_labels import short_name, ticket_labels
from tamtctl.ticket_texts import TextSource, labels_of, trained_on
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
class OpenedTicket:
    """A ticket that is compared: where it is, and at which level."""

    path: Path
    ticket: Ticket
    at: TicketLevel


@dataclass(frozen=True)
class Opened:
    """A comparison whose request, tickets, model and text have been checked.

    Attributes:
        config: As asked for, with the model and the corpus that it is about.
        cells: Of the sweep; of tickets, the baselines that keep as many weights in every matrix.
        tickets: By what tables call them.
        texts: The model and held-out text; several where tickets were trained on different ones.
        text_facts: What the texts are.
        notes: What a reader has to know.
    """

    config: CompareConfig
    cells: list[Cell]
    tickets: dict[str, OpenedTicket]
    texts: Texts
    text_facts: list[TextFacts]
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """What the masks are of."""
        return self.text.encoder.id

    @property
    def text(self) -> HeldOutText:
        """The first text, with the model; of a sweep there is no other."""
        return next(iter(self.texts.values()))

    @property
    def uneven_levels(self) -> list[TicketLevel]:
        """The levels of tickets that no cell is of."""
        levels = {one.at.level: one.at for one in self.tickets.values() if one.at.level.among}
        return [levels[level] for level in sorted(levels)]


def open_comparison(config: CompareConfig, watcher: CompareWatcher) -> Opened:
    """Check a request, and load what it is about; nothing is written but caches.

    Raises:
        TamtctlError: The request, the model, the text or a ticket are refused.
    """
    if world().size > 1:
        raise UsageError("compare runs in one process; spread a sweep over several with --shard")
    paths = _ticket_paths(config.tickets)
    tickets = {label: Ticket.load(path) for label, path in paths.items()}
    watcher.note("loading the model and the held-out text …")
    opened = _open_tickets(config, tickets, paths) if tickets else _open_sweep(config)
    notes = [note for text in opened.texts.values() for note in text.notes]
    opened = replace(opened, notes=(*opened.notes, *dict.fromkeys(notes)))
    for note in opened.notes:
        watcher.note(note)
    return opened


def _open_sweep(config: CompareConfig) -> Opened:
    search = config.search_config(config.cells()[0])
    text = _open_text(config, search, revision=None)
    config = replace(config, model=search.model, corpus=search.corpus)
    cells = config.cells(has_head="mlm" in text.terms)
    source = TextSource(search.corpus, search.held_out, None, search.sequence_length)
    facts = [_text_facts("", source, text, {})]
    return Opened(config, cells, {}, {"": text}, facts, tuple(config.notes_on_steps(cells)))


def _ticket_paths(names: Sequence[str]) -> dict[str, Path]:
    """Return label → folder of the tickets; each is to be given once."""
    paths = {name: resolve_ticket(name).path for name in names}
    for one, other in itertools.combinations(names, 2):
        if paths[one].resolve() == paths[other].resolve():
            raise UsageError(f"{one!r} and {other!r} are one and the same ticket; give it once")
    reserved = {DENSE, *SWEEP_METHODS, *LABELS.values()}
    labels = ticket_labels(names, reserved)
    return {labels[name]: paths[name] for name in names}


def _open_tickets(
    config: CompareConfig, tickets: Mapping[str, Ticket], paths: Mapping[str, Path]
) -> Opened:
    _check_one_model(tickets)
    first = next(iter(tickets.values()))
    model, revision = (config.model, None) if config.model else first.find_base()
    config = replace(config, model=model)
    if config.model == first.base_model.id:
        revision = first.base_model.revision
    sources, notes = _text_sources(config, tickets)
    sourced = _open_texts(config, sources, revision)
    texts = {label: text for label, (_, text) in sourced.items()}
    text = next(iter(texts.values()))
    for label, ticket in tickets.items():
        remedy = f"{label} is a ticket of other weights; compare tickets of one --model"
        ticket.check_weights(text.weights, model=text.encoder.id, remedy=remedy)
    _check_heads(tickets, text)
    # No loss depends on the pooler; fine-tuning does.
    reached = text.weights if config.tasks else text.frozen
    levels = levels_of(tickets, {name: weight.numel() for name, weight in reached.items()})
    opened = {
        label: OpenedTicket(paths[label], ticket, levels[label])
        for label, ticket in tickets.items()
    }
    even = {one.level.sparsity for one in levels.values() if not one.level.among}
    own = {label: TextSource.of(ticket) for label, ticket in tickets.items()}
    measured = [source for source, _ in sourced.values()]
    return Opened(
        replace(config, corpus=sources[0].corpus, sequence_length=sources[0].sequence_length),
        baseline_cells(sorted(even)),
        opened,
        texts,
        [_text_facts(label, *one, own) for label, one in sourced.items()],
        (*notes, *notes_on_levels(levels), *_notes_on_training(measured, own)),
    )


def _check_one_model(tickets: Mapping[str, Ticket]) -> None:
    """Refuse tickets of different weights before a model is loaded, where they have a matrix each.

    Raises:
        TicketError: Two of them have a matrix of the same name, over other weights.
    """
    for (name, one), (other_name, other) in itertools.combinations(tickets.items(), 2):
        for matrix, entry in one.parameters.items():
            if matrix in other.parameters and other.parameters[matrix].sha256 != entry.sha256:
                raise TicketError(
                    f"{name} is a ticket of {one.base_model.id!r}, and {other_name} one of "
                    f"{other.base_model.id!r}, with other weights in {matrix}; compare tickets of "
                    "one model"
                )


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


def _text_sources(
    config: CompareConfig, tickets: Mapping[str, Ticket]
) -> tuple[list[TextSource], list[str]]:
    """Return the texts to measure on: what is asked for, or what each ticket was trained on."""
    default = config.defaults()
    own = {label: TextSource.of(ticket) for label, ticket in tickets.items()}
    lengths = [source.sequence_length or default.sequence_length for source in own.values()]
    if config.sequence_length:
        lengths = [config.sequence_length]
    if config.corpus:
        column = config.text_column
        sources = [TextSource(config.corpus, (), column, length) for length in lengths]
        return sorted(set(sources), key=_sort_key), []
    known = [
        replace(
            source,
            # Of held-out text of its own, nothing depends on the corpus beside it.
            corpus=source.held_out or source.corpus,
            text_column=config.text_column or source.text_column,
            sequence_length=config.sequence_length
            or source.sequence_length
            or default.sequence_length,
        )
        for source in own.values()
        if source.corpus
    ]
    notes = []
    if silent := [label for label, source in own.items() if not source.corpus]:
        if not known:
            known = [
                TextSource(default.corpus, default.held_out, default.text_column, length)
                for length in lengths
            ]
        says = "says" if len(silent) == 1 else "say"
        notes.append(
            f"{' and '.join(silent)} {says} of no text to have been trained on; "
            "choose the text with --corpus"
        )
    return sorted(set(known), key=_sort_key), notes


def _sort_key(source: TextSource) -> tuple[tuple[str, ...], str, int]:
    return source.measured, source.text_column or "", source.sequence_length or 0


def _open_texts(
    config: CompareConfig, sources: Sequence[TextSource], revision: str | None
) -> dict[str, tuple[TextSource, HeldOutText]]:
    """Return label → source and text; without a label if there is but one text."""
    names = labels_of(sources)
    texts: dict[str, tuple[TextSource, HeldOutText]] = {}
    first: HeldOutText | None = None
    for source in sources:
        try:
            text = _open_source(config, source, revision, first)
        except CorpusError as error:
            if config.corpus:
                raise
            raise CorpusError(
                f"the text that a ticket was trained on: {error}; or give --corpus"
            ) from error
        first = first or text
        if all(text.identity != other.identity for _, other in texts.values()):
            texts[names[source]] = (source, text)  # else the same text under another name
    return texts if len(texts) > 1 else dict(zip([""], texts.values(), strict=True))


def _open_source(
    config: CompareConfig, source: TextSource, revision: str | None, opened: HeldOutText | None
) -> HeldOutText:
    """Read a text; the model is loaded with the first one."""
    assert config.model is not None
    assert source.sequence_length is not None
    if opened:
        return opened.on(
            source.corpus,
            held_out=source.held_out,
            text_column=source.text_column,
            sequence_length=source.sequence_length,
        )
    search = config.defaults()
    return HeldOutText.open(
        config.model,
        source.corpus,
        revision=revision,
        held_out=source.held_out,
        text_column=source.text_column,
        sequence_length=source.sequence_length,
        limit=search.evaluation_blocks,
        compute=Compute.choose(search.device, search.precision, search.threads),
    )


def _text_facts(
    label: str, source: TextSource, text: HeldOutText, tickets: Mapping[str, TextSource]
) -> TextFacts:
    whose = [name for name, own in tickets.items() if own.measured == source.measured]
    is_told = len({own.measured for own in tickets.values()}) > 1
    return TextFacts(
        label,
        " ".join(map(public, source.measured)),
        min(text.limit, len(text.blocks)),
        source.sequence_length or 0,
        tuple(whose) if is_told else (),
    )


def _notes_on_training(
    sources: Sequence[TextSource], tickets: Mapping[str, TextSource]
) -> Iterator[str]:
    """Yield which tickets may know the text that they are measured on."""
    for source in sources:
        for label, own in tickets.items():
            if trained_on(source, own):
                text = " ".join(map(public, source.measured))
                yield (
                    f"{label} was trained on text of {text}, on which it is measured: its loss "
                    "there is too good"
                )


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

    levels = opened.uneven_levels
    count = 1 + len(opened.cells) - len(runs.left_out) + len(opened.tickets)
    count += len(levels) * len(ONE_SHOT_MASKS)
    watcher.note(f"measuring {count} subnetworks on held-out text …")
    measured = [replace(dense(texts), scores=scores(of(None)))]
    for cell in opened.cells:
        if cell in runs.left_out:
            continue
        one = of_cell(cell, runs.searches.get(cell), texts)
        along = {step: one.along[step] for step in config.at_steps if step in one.along}
        measured.append(replace(one, scores=scores(of(cell)), along=along))
    for level, (method, seed) in itertools.product(levels, ONE_SHOT_MASKS):
        one = of_one_shot(method, seed, level, texts)
        if config.tasks and one.ticket:
            one = replace(one, path=saved(one.ticket))
        measured.append(with_scores(one, one.path))
    for label, given in opened.tickets.items():
        one = of_ticket(label, given.path, given.ticket, given.at, texts)
        measured.append(with_scores(one, one.path))
    return measured


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
        is_told = b.is_given or b.method in ("magnitude", "imp")
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
    if one.is_given or one.method not in ("imp", *ONE_SHOT):
        return 0
    return ("imp", *ONE_SHOT).index(one.method) + 1


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


def _steps_to_equal(config: CompareConfig, groups: Groups) -> Iterator[StepsToEqual]:
    for (_, level), group in groups.items():
        rivals = groups.get(("imp", level))
        for one in group:
            if not (rivals and one.along and one.objective in ("mlm", "kd")):
                continue
            term = one.objective
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
