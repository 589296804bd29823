"""The texts that a comparison measures on: choosing and reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.result import TextFacts
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.public_names import public
from tamtctl.models.usual_rows import usual_rows
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.ticket.texts import TextSource, labels_of


def text_sources(
    config: CompareConfig, own: Mapping[str, TextSource]
) -> tuple[list[TextSource], list[str]]:
    """Return the texts to measure on, asked for or of the tickets, and notes on the choice.

    Args:
        config: The comparison.
        own: Label → the text that each ticket was trained on.
    """
    default = config.defaults()
    said = [source.sequence_length for source in own.values() if source.sequence_length]
    lengths = [config.sequence_length] if config.sequence_length else said
    lengths = lengths or [default.sequence_length]  # for tickets that state none
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
            # With a held-out text apart, the corpus does not matter.
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
            usual = source_of(default)
            known = [replace(usual, sequence_length=length) for length in lengths]
        says = "says" if len(silent) == 1 else "say"
        notes.append(
            f"{' and '.join(silent)} {says} of no text to have been trained on; "
            "choose the text with --corpus"
        )
    return sorted(set(known), key=_sort_key), notes


def source_of(search: SearchConfig) -> TextSource:
    """Return the text of a search."""
    return TextSource(
        tuple(search.corpus),
        tuple(search.held_out),
        search.text_column,
        search.sequence_length,
        search.rows or usual_rows(search.model),
    )


def open_texts(
    config: CompareConfig, sources: Sequence[TextSource], revision: str | None
) -> dict[str, tuple[TextSource, HeldOutText]]:
    """Return label → source and text; the label of a single text is empty."""
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
            texts[names[source]] = (source, text)  # others are the same text under another name
    return texts if len(texts) > 1 else dict(zip([""], texts.values(), strict=True))


def open_text(
    model: str, source: TextSource, search: SearchConfig, revision: str | None
) -> HeldOutText:
    """Open a text as a search does: with its number of sequences, precision and device."""
    return HeldOutText.open(
        model,
        source,
        revision=revision,
        limit=search.evaluation_blocks,
        compute=Compute.choose(search.device, search.precision, search.threads),
    )


def text_facts_of(
    label: str, source: TextSource, text: HeldOutText, tickets: Mapping[str, TextSource]
) -> TextFacts:
    """Return the facts on a text that a report states.

    Args:
        label: What tables call it; empty if it is the only one.
        source: Where it comes from.
        text: What was read of it.
        tickets: Label → the text that each ticket was trained on.
    """
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


def _open_source(
    config: CompareConfig, source: TextSource, revision: str | None, opened: HeldOutText | None
) -> HeldOutText:
    """Read a text; the first one loads the model, which the others share."""
    assert config.model is not None
    if opened:
        return opened.on(source)
    return open_text(config.model, source, config.defaults(), revision)


def _sort_key(source: TextSource) -> tuple[tuple[str, ...], str, int, str]:
    return source.measured, source.text_column or "", source.sequence_length or 0, source.rows
