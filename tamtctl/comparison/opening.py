"""Opening a comparison: its request, tickets, model and texts are checked and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tamtctl.comparison.bench import Bench
from tamtctl.comparison.comparable_tickets import (
    check_heads,
    check_newest,
    check_one_model,
    notes_on_other_content,
    notes_on_training,
)
from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.levels import ROUNDED, TicketLevel, levels_of, notes_on_levels
from tamtctl.comparison.measured_texts import (
    open_text,
    open_texts,
    source_of,
    text_facts_of,
    text_sources,
)
from tamtctl.comparison.recovered import OpenedRecovery, notes_on_texts, open_recovered, split_names
from tamtctl.comparison.result import TextFacts
from tamtctl.comparison.subnetworks import DENSE, baseline_cells
from tamtctl.comparison.sweep import CompareWatcher
from tamtctl.comparison.tasks_without_training import check_embeddings, data_identity
from tamtctl.comparison.ticket_labels import ticket_labels
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.methods import sweep_methods
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.patterns.of_model import pattern_of_model
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.tasks.finetuning.requested_run import open_data
from tamtctl.tasks.finetuning.run_examples import RunExamples
from tamtctl.ticket.finding import refuse_twice, resolve_ticket
from tamtctl.ticket.texts import TextSource
from tamtctl.ticket.ticket import Ticket


@dataclass(frozen=True)
class OpenedTicket:
    """A ticket that is compared, with its folder and its level."""

    path: Path
    ticket: Ticket
    at: TicketLevel


@dataclass(frozen=True)
class Opened:
    """A comparison whose request, tickets, model and texts have been checked.

    Attributes:
        config: The request, with model and corpus filled in.
        cells: Cells of the sweep; of tickets, the baselines at levels alike in every matrix.
        tickets: Label in tables → the ticket.
        recovered: Label in tables → recovered weights of one of the tickets.
        beside: Cells of the sweep's criteria with the other allocation.
        bench: The model with the held-out texts.
        text_facts: Facts on the texts that the report states.
        notes: Notes for the reader of the report.
        data: The identity of each task's examples.
        sources: Of tickets, where each held-out text comes from, and the text.
    """

    config: CompareConfig
    cells: list[Cell]
    tickets: dict[str, OpenedTicket]
    bench: Bench
    text_facts: list[TextFacts]
    notes: tuple[str, ...] = ()
    beside: Sequence[Cell] = ()
    recovered: Mapping[str, OpenedRecovery] = field(default_factory=dict)
    data: Sequence[dict[str, str]] = ()
    sources: Sequence[tuple[TextSource, HeldOutText]] = ()

    @property
    def model(self) -> str:
        """The model of the masks: Hub id, folder or nano."""
        return self.bench.text.encoder.id

    @property
    def searched(self) -> list[Cell]:
        """All cells that may take a run, those with the other allocation included."""
        return [*self.cells, *self.beside]

    @property
    def uneven_levels(self) -> list[TicketLevel]:
        """The levels of tickets without cells: uneven, of some matrices only, or of a pattern."""
        levels = {one.at.level: one.at for one in self.tickets.values() if one.at.level.among}
        return [levels[level] for level in sorted(levels)]


def open_comparison(config: CompareConfig, watcher: CompareWatcher) -> Opened:
    """Check a request, and load its model, texts and tickets; only caches are written.

    Raises:
        TamtctlError: The request, the model, the text or a ticket is refused.
    """
    if world().size > 1:
        raise UsageError("compare runs in one process; spread a sweep over several with --shard")
    names, recovered = split_names(config.tickets)
    paths = _ticket_paths(names)
    tickets = {label: Ticket.load(path) for label, path in paths.items()}
    data = list(_identities_of_examples(config, watcher))
    watcher.note("loading the model and the held-out text …")
    opened = _open_tickets(config, tickets, paths) if tickets else _open_sweep(config)
    levels = {label: one.at for label, one in opened.tickets.items()}
    opened = replace(opened, recovered=open_recovered(recovered, paths, levels), data=data)
    notes = [note for text in opened.bench.texts.values() for note in text.notes]
    notes += notes_on_texts(opened.recovered, opened.sources)
    opened = replace(opened, notes=(*opened.notes, *dict.fromkeys(notes)))
    for task in filter(config.is_without_training, config.tasks):
        check_embeddings(config.evaluate_config(task, opened.model))
    for note in opened.notes:
        watcher.note(note)
    return opened


def _notes_on_rounding(bench: Bench, sparsities: Sequence[float]) -> Iterator[str]:
    """Yield a note for each sparsity that masks cannot have exactly."""
    for asked in sparsities:
        counts = bench.counts(asked)
        reached = 1 - sum(counts.values()) / sum(bench.weights[name].numel() for name in counts)
        if abs(reached - asked) >= ROUNDED:
            why = (
                "each matrix keeps a whole number of weights"
                if bench.pattern == UNSTRUCTURED
                else f"{bench.pattern} are kept whole"
            )
            yield f"at {asked:g} the masks have a sparsity of {reached:.4g}, as {why}"


def _identities_of_examples(
    config: CompareConfig, watcher: CompareWatcher
) -> Iterator[dict[str, str]]:
    """Read the examples of every task, so that bad ones are refused now and not after a search."""
    for task in config.tasks:
        if config.is_without_training(task):
            yield data_identity(config.evaluate_config(task))
            continue
        tuning = config.finetune_config(task)
        data = open_data(tuning)
        watcher.note(f"reading the examples of {task} …")
        RunExamples.of(tuning, data)
        yield data.identity


def _open_sweep(config: CompareConfig) -> Opened:
    search = config.search_config(config.cells()[0])
    source = source_of(search)
    text = open_text(search.model, source, search, revision=None)
    config = config.filled_in(model=search.model, corpus=search.corpus)
    if (pattern := pattern_of_model(search.pattern, search.model)) != search.pattern:
        config = config.filled_in(pattern=pattern)
    cells = config.cells(has_head=bool(text.head), has_pooling=text.has_pooling)
    # All methods share zeros out by the criterion of the first, so that they can be compared.
    config = config.filled_in(budget_criterion=config.search_config(cells[0]).budget_criterion)
    facts = [text_facts_of("", source, text, {})]
    bench = Bench({"": text}, config.mask_pattern)
    bench.counts(cells[0].sparsity)  # raises if the model cannot have the pattern
    return Opened(
        config,
        cells,
        {},
        bench,
        facts,
        (*config.notes_on_steps(cells), *_notes_on_rounding(bench, config.sparsities)),
        config.cells_of_other_allocations(cells, text.terms[0]),
    )


def _ticket_paths(names: Sequence[str]) -> dict[str, Path]:
    """Return label → folder of the tickets.

    Raises:
        UsageError: A ticket is given twice.
    """
    paths = {name: resolve_ticket(name).path for name in names}
    refuse_twice(paths.items(), "ticket")
    labels = ticket_labels(names, _reserved())
    return {labels[name]: paths[name] for name in names}


def _reserved() -> set[str]:
    """Return the names in tables that are not of tickets."""
    known = sweep_methods()
    return {DENSE, *known, *(method.label for method in known.values())}


def _open_tickets(
    config: CompareConfig, tickets: Mapping[str, Ticket], paths: Mapping[str, Path]
) -> Opened:
    check_one_model(tickets)
    first = next(iter(tickets.values()))
    model, revision = first.find_base(config.model)
    config = config.filled_in(model=model)
    if config.model == first.base_model.id:
        revision = first.base_model.revision
    own = {label: TextSource.of(ticket) for label, ticket in tickets.items()}
    sources, notes = text_sources(config, own)
    sourced = open_texts(config, sources, revision)
    texts = {label: text for label, (_, text) in sourced.items()}
    bench = Bench(texts)
    text = bench.text
    for label, ticket in tickets.items():
        bench.check(ticket, f"{label} is a ticket of other weights; compare tickets of one --model")
    check_heads(tickets, text)
    if config.tasks:
        check_newest(model, revision, bench.weights)
    # Losses do not depend on the pooler, but fine-tuning does.
    reached = bench.weights if config.tasks else text.frozen
    levels = levels_of(tickets, {name: weight.numel() for name, weight in reached.items()})
    opened = {
        label: OpenedTicket(paths[label], ticket, levels[label])
        for label, ticket in tickets.items()
    }
    even = {one.level.sparsity for one in levels.values() if not one.level.among}
    measured = [source for source, _ in sourced.values()]
    return Opened(
        config.filled_in(corpus=sources[0].corpus, sequence_length=sources[0].sequence_length),
        baseline_cells(sorted(even)),
        opened,
        bench,
        [text_facts_of(label, *one, own) for label, one in sourced.items()],
        (
            *notes,
            *notes_on_levels(levels),
            *notes_on_training(measured, own),
            *notes_on_other_content(sourced.values(), tickets, own),
        ),
        sources=tuple(sourced.values()),
    )
