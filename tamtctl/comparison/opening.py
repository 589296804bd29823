"""Opening a comparison: request, tickets, model and texts, checked before all is measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tamtctl.comparison.bench import Bench
from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.levels import TicketLevel, levels_of, notes_on_levels
from tamtctl.comparison.result import TextFacts
from tamtctl.comparison.subnetworks import DENSE, baseline_cells
from tamtctl.comparison.sweep import CompareWatcher
from tamtctl.comparison.ticket_labels import ticket_labels
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import CorpusError, TicketError, UsageError
from tamtctl.foundations.public_names import public
from tamtctl.models.usual_rows import usual_rows
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.methods import sweep_methods
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.ticket.heads import fitting_head
from tamtctl.ticket.shelf import resolve_ticket
from tamtctl.ticket.texts import TextSource, labels_of, trained_on
from tamtctl.ticket.ticket import Ticket


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
        config: The request, with the model and the corpus that it is about.
        cells: Cells of the sweep; for tickets, baselines with as many weights in every matrix.
        tickets: Label in tables → the ticket.
        bench: The model and held-out text; several where tickets were trained on different ones.
        text_facts: What the texts are.
        notes: What a reader has to know.
    """

    config: CompareConfig
    cells: list[Cell]
    tickets: dict[str, OpenedTicket]
    bench: Bench
    text_facts: list[TextFacts]
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """What the masks are of."""
        return self.bench.text.encoder.id

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
    notes = [note for text in opened.bench.texts.values() for note in text.notes]
    opened = replace(opened, notes=(*opened.notes, *dict.fromkeys(notes)))
    for note in opened.notes:
        watcher.note(note)
    return opened


def _open_sweep(config: CompareConfig) -> Opened:
    search = config.search_config(config.cells()[0])
    source = TextSource(
        tuple(search.corpus),
        tuple(search.held_out),
        search.text_column,
        search.sequence_length,
        search.rows or usual_rows(search.model),
    )
    text = _open_text(search.model, source, search, revision=None)
    config = config.filled_in(model=search.model, corpus=search.corpus)
    cells = config.cells(has_head=bool(text.head), has_pooling=text.has_pooling)
    # What the first method shares zeros out by is common to all, so that they can be compared.
    config = config.filled_in(budget_criterion=config.search_config(cells[0]).budget_criterion)
    facts = [_text_facts("", source, text, {})]
    bench = Bench({"": text}, config.mask_pattern)
    bench.counts(cells[0].sparsity)  # refuses a pattern that the model cannot be of
    return Opened(
        config,
        cells,
        {},
        bench,
        facts,
        tuple(config.notes_on_steps(cells)),
    )


def _ticket_paths(names: Sequence[str]) -> dict[str, Path]:
    """Return label → folder of the tickets; each is to be given once."""
    paths = {name: resolve_ticket(name).path for name in names}
    for one, other in itertools.combinations(names, 2):
        if paths[one].resolve() == paths[other].resolve():
            raise UsageError(f"{one!r} and {other!r} are one and the same ticket; give it once")
    known = sweep_methods()
    reserved = {DENSE, *known, *(method.label for method in known.values())}
    labels = ticket_labels(names, reserved)
    return {labels[name]: paths[name] for name in names}


def _open_tickets(
    config: CompareConfig, tickets: Mapping[str, Ticket], paths: Mapping[str, Path]
) -> Opened:
    _check_one_model(tickets)
    first = next(iter(tickets.values()))
    model, revision = first.find_base(config.model)
    config = config.filled_in(model=model)
    if config.model == first.base_model.id:
        revision = first.base_model.revision
    sources, notes = _text_sources(config, tickets)
    sourced = _open_texts(config, sources, revision)
    texts = {label: text for label, (_, text) in sourced.items()}
    bench = Bench(texts)
    text = bench.text
    for label, ticket in tickets.items():
        bench.check(ticket, f"{label} is a ticket of other weights; compare tickets of one --model")
    _check_heads(tickets, text)
    # No loss depends on the pooler; fine-tuning does.
    reached = bench.weights if config.tasks else text.frozen
    levels = levels_of(tickets, {name: weight.numel() for name, weight in reached.items()})
    opened = {
        label: OpenedTicket(paths[label], ticket, levels[label])
        for label, ticket in tickets.items()
    }
    even = {one.level.sparsity for one in levels.values() if not one.level.among}
    own = {label: TextSource.of(ticket) for label, ticket in tickets.items()}
    measured = [source for source, _ in sourced.values()]
    return Opened(
        config.filled_in(corpus=sources[0].corpus, sequence_length=sources[0].sequence_length),
        baseline_cells(sorted(even)),
        opened,
        bench,
        [_text_facts(label, *one, own) for label, one in sourced.items()],
        (
            *notes,
            *notes_on_levels(levels),
            *_notes_on_training(measured, own),
            *_notes_on_other_content(sourced.values(), tickets),
        ),
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
    if not text.head:
        return
    model = text.encoder.model
    for name, ticket in tickets.items():
        try:
            if ticket.mlm_head is not None:
                fitting_head(ticket.mlm_head, text.head, model)
        except TicketError as error:
            raise TicketError(f"ticket {name!r}: {error}") from error


def _text_sources(
    config: CompareConfig, tickets: Mapping[str, Ticket]
) -> tuple[list[TextSource], list[str]]:
    """Return the texts to measure on: what is asked for, or what each ticket was trained on."""
    default = config.defaults()
    own = {label: TextSource.of(ticket) for label, ticket in tickets.items()}
    said = [source.sequence_length for source in own.values() if source.sequence_length]
    lengths = [config.sequence_length] if config.sequence_length else said
    lengths = lengths or [default.sequence_length]  # a ticket that says none takes the others'
    if config.corpus:
        column = config.text_column
        units = [config.rows] if config.rows else [source.rows for source in own.values()]
        sources = [
            TextSource(tuple(config.corpus), (), column, length, rows)
            for length in lengths
            for rows in units
        ]
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
            rows=config.rows or source.rows,
        )
        for source in own.values()
        if source.corpus
    ]
    notes = []
    if silent := [label for label, source in own.items() if not source.corpus]:
        if not known:
            rows = default.rows or usual_rows(default.model)
            known = [
                TextSource(
                    tuple(default.corpus),
                    tuple(default.held_out),
                    default.text_column,
                    length,
                    rows,
                )
                for length in lengths
            ]
        says = "says" if len(silent) == 1 else "say"
        notes.append(
            f"{' and '.join(silent)} {says} of no text to have been trained on; "
            "choose the text with --corpus"
        )
    return sorted(set(known), key=_sort_key), notes


def _sort_key(source: TextSource) -> tuple[tuple[str, ...], str, int, str]:
    return source.measured, source.text_column or "", source.sequence_length or 0, source.rows


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
            rows=source.rows,
            sequence_length=source.sequence_length,
        )
    return _open_text(config.model, source, config.defaults(), revision)


def _text_facts(
    label: str, source: TextSource, text: HeldOutText, tickets: Mapping[str, TextSource]
) -> TextFacts:
    read = (source.measured, source.rows)
    whose = [name for name, own in tickets.items() if (own.measured, own.rows) == read]
    is_told = len({(own.measured, own.rows) for own in tickets.values()}) > 1
    return TextFacts(
        label,
        " ".join(map(public, source.measured)),
        text.scored.sequences,
        source.sequence_length or 0,
        tuple(whose) if is_told else (),
        source.rows,
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


def _notes_on_other_content(
    measured: Iterable[tuple[TextSource, HeldOutText]], tickets: Mapping[str, Ticket]
) -> Iterator[str]:
    """Yield which tickets were trained on a text of the name that is measured, but not on this one.

    A ticket holds the digests of what it was trained on. What it was measured on then is told by
    its corpus only where it had no held-out text of its own.
    """
    for source, text in measured:
        for label, ticket in tickets.items():
            own = TextSource.of(ticket)
            digests = ticket.metrics.get("trained_on")
            if not isinstance(digests, list | tuple) or own.held_out or source.held_out:
                continue
            name = " ".join(map(public, source.corpus))
            is_same_name = " ".join(map(public, own.corpus)) == name
            if is_same_name and set(map(str, digests)) != set(text.digests):
                yield (
                    f"{label} was trained on other text than is in {name} now: its losses are not "
                    "those that it was made with"
                )


def _open_text(
    model: str, source: TextSource, search: SearchConfig, revision: str | None
) -> HeldOutText:
    """Open a text as a search measures on it: so much of it, in this precision, on this device."""
    assert source.sequence_length is not None
    return HeldOutText.open(
        model,
        source.corpus,
        revision=revision,
        held_out=source.held_out,
        text_column=source.text_column,
        rows=source.rows,
        sequence_length=source.sequence_length,
        limit=search.evaluation_blocks,
        compute=Compute.choose(search.device, search.precision, search.threads),
    )
