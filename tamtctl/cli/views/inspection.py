"""How an inspected ticket looks on a screen: what it is, what it is worth, where its flips are.

What all matrices have in common is said once; only exceptions have lines of their own.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from tamtctl.cli.console import Page
from tamtctl.cli.layout import Column, Sheet, bar, beside, table
from tamtctl.cli.views.words import gap_closed, parts_text
from tamtctl.foundations import printable
from tamtctl.foundations.folders import size
from tamtctl.foundations.public_names import texts_of
from tamtctl.pruning.criteria import REFERENCE, baselines
from tamtctl.ticket.flips import Flips
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.format.patterns import is_cut_from_graphs, is_sliced
from tamtctl.ticket.format.reader import ABSENT
from tamtctl.ticket.inspection import Inspection
from tamtctl.ticket.made_of import KEPT_SCORES, MadeOf, is_of_kept_scores
from tamtctl.ticket.mask_shares import Part, Uniform, layers, types
from tamtctl.ticket.measured import Measured
from tamtctl.ticket.parameter_counts import ParameterCounts

_INDENT = 12  # column at which the text behind a label begins
_LAYERS, _TYPES, _EXCEPTIONS = 12, 12, 5  # lines at most
_BAR = 9  # characters
_TO_ONNX = " --format onnx"
_KINDS = {"path": "", "packaged": "packaged, ", "hub": "pulled from the Hub, "}


def show_inspection(
    output: Page, inspection: Inspection, *, name: str | None = None, full: bool = False
) -> None:
    """Print a ticket on one screen.

    Args:
        output: Where it is printed.
        inspection: What was read of the ticket.
        name: The ticket as the user named it, for the commands to type next.
        full: Show every matrix and every check.
    """
    sheet = Sheet(output, _INDENT)
    state = "intact" if inspection.is_valid else "NOT VALID"
    about = f"{_KINDS[inspection.kind]}{size(inspection.bytes)}, {state}"
    sheet.bold(f"{inspection.path}  ({about})")
    if (ticket := inspection.ticket) and (flips := inspection.flips):
        sheet.facts(_origin(ticket, full=full))
        _show_losses(sheet, ticket)
        _show_masks(sheet, ticket, flips, full=full)
    output.line()
    _show_checks(sheet, inspection, full=full)
    if inspection.ticket:
        _show_next(sheet, inspection.ticket, name or str(inspection.path))


def show_ticket(output: Page, ticket: TicketMetadata) -> None:
    """Print what a ticket is, and its losses."""
    sheet = Sheet(output, _INDENT)
    sheet.facts(_origin(ticket, full=False))
    _show_losses(sheet, ticket)
    kept = f"keeps {ticket.kept:,} of {ticket.total:,} weights"
    sheet.section(f"Sparsity {ticket.sparsity:.4g}: {kept}", _told(ticket, Uniform.of(ticket)))


def _origin(ticket: TicketMetadata, *, full: bool) -> dict[str, str]:
    """Return the model of a ticket, and how the ticket was found, as label → text."""
    base, measured = ticket.base_model, Measured.of(ticket)
    revision = f" at {base.revision if full else base.revision[:12]}" if base.revision else ""
    mark = base.fingerprint if full else f"{base.fingerprint[:12]}…"
    how = ticket.method + (f", objective {ticket.objective}" if ticket.objective else "")
    if made_of := MadeOf.of(ticket):
        how = _made(made_of)
    seed = ticket.search.get("seed")
    if isinstance(seed, int):
        how += f", seed {seed}"
    if is_of_kept_scores(ticket):
        how += f", from {KEPT_SCORES}"
    if measured.changed is False:
        how += "; training did not change the mask: it is the one that the search began with"
    elif measured.steps and measured.flips is not None:
        how += f"; {measured.steps:,} steps, which changed {measured.flips:.1%} of the mask"
    facts = {
        "mask of": f"{base.id} ({base.model_type}){revision}, weights {mark}",
        "found by": how,
    }
    if ticket.is_of_a_pattern:
        facts["pattern"] = ticket.pattern
    if counts := ParameterCounts.told_by(ticket):
        facts["size"] = str(counts)
    if corpus := texts_of(ticket.search, "corpus"):
        facts["trained on"] = ", ".join(printable.cell(text) for text in corpus)
    made = ticket.created if full else ticket.created[:10]
    facts["made"] = f"{made} by tamtctl {ticket.tamtctl_version}, stored as {ticket.encoding}"
    return facts


def _made(made: MadeOf) -> str:
    """Return how a ticket was combined from others."""
    how = f"the {made.operation} of {len(made.parts)} tickets"
    if made.sparsity is not None:
        how = f"the votes of {len(made.parts)} tickets, at sparsity {made.sparsity:g}"
    parts = [printable.cell(part.name) for part in made.parts]
    return f"{how}, without a search: {printable.first(parts)}"


def _show_losses(sheet: Sheet, ticket: TicketMetadata) -> None:
    """Show what was measured of a ticket, with its unit and its text."""
    measured = Measured.of(ticket)
    if not measured.losses and not measured.scores:
        sheet.section("Held-out loss: none was measured")
    if measured.losses:
        sheet.section(
            f"Held-out loss ({measured.unit or 'of an unknown unit'}; lower is better)",
            f"on {measured.text}" if measured.text else "",
        )
        sheet.table(_loss_columns(measured))
        if Uniform.of(ticket) is None and REFERENCE in measured.losses:
            sheet.words("Here magnitude and random have the same sparsity in every matrix.")
        if measured.check_text:
            sheet.words(f"The second text is {measured.check_text}.")
        if measured.changed is not False and measured.standard_errors:
            sheet.words(gap_closed(measured.losses, measured.standard_errors) or "")
    if measured.scores:
        sheet.section("Scores after fine-tuning")
        sheet.facts({
            task: ", ".join(f"{metric} {value:.4f}" for metric, value in found.items())
            for task, found in measured.scores.items()
        })  # fmt: skip


def _loss_columns(measured: Measured) -> list[Column]:
    losses = measured.losses
    order = ("dense", *(row.name for row in baselines()), "ticket")
    known = [name for name in order if name in losses]
    others = [name for name in losses if name not in known]
    masks = [*(n for n in known if n != "ticket"), *others, *(n for n in known if n == "ticket")]

    def numbers(heading: str, values: Mapping[str, float]) -> Column:
        shown = [f"{values[name]:.3f}" if name in values else "–" for name in masks]
        return Column(heading, shown, right=True)

    columns = [Column("mask", masks), numbers("loss", losses)]
    if measured.standard_errors:
        columns.append(numbers("± s.e.", measured.standard_errors))
    if measured.check_losses:
        columns.append(numbers("second text", measured.check_losses))
    most = max(losses.values())
    if min(losses.values()) >= 0 and most > 0:
        columns.append(Column("", [bar(losses[name] / most, 3 * _BAR) for name in masks]))
    return columns


def _show_masks(sheet: Sheet, ticket: TicketMetadata, flips: Flips, *, full: bool) -> None:
    uniform = Uniform.of(ticket)
    kept = f"keeps {ticket.kept:,} of {ticket.total:,} weights"
    sheet.section(f"Sparsity {ticket.sparsity:.4g}: {kept}", _told(ticket, uniform))
    if uniform:
        sheet.lines(_exceptions(uniform))
    if flips.unknown:
        sheet.words(f"Where it differs from the magnitude mask is not known here: {flips.unknown}.")
    elif flips.share == 0:
        sheet.words("It is the magnitude mask: no weight is flipped.")
    else:
        reference = "unstructured magnitude mask" if ticket.is_of_a_pattern else "magnitude mask"
        sheet.words(
            f"Flipped {flips.share:.1%}: the share that differs from the {reference} that keeps "
            f"as many weights (of a mask drawn at random, {flips.chance:.1%})."
        )
    values: dict[str, Callable[[Part], float | None]] = {}
    if uniform is None or uniform.exceptions:
        values["sparsity"] = lambda part: part.sparsity(ticket)
    if flips.share:
        values["flipped"] = lambda part: part.flipped(flips)
    names = list(ticket.parameters)
    if values:
        kinds = types(names)
        blocks = [_block("layer", layers(names, _LAYERS), values, sheet.width)]
        blocks.append(_block("matrix", kinds if full else kinds[:_TYPES], values, sheet.width))
        if len(kinds) > _TYPES and not full:
            blocks[1].append(f"and {len(kinds) - _TYPES} more (--full)")
        sheet.lines(["", *beside(blocks[0], blocks[1], sheet.width)])
    if full:
        sheet.section("Every matrix")
        sheet.table(_matrix_columns(ticket, flips))


def _told(ticket: TicketMetadata, uniform: Uniform | None) -> str:
    """Return how the zeros are spread over the matrices, in a sentence."""
    shares = {name: 1 - e.kept / e.numel for name, e in ticket.parameters.items()}
    count, parts = len(shares), ticket.sparsities
    if uniform is None:
        least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
        return (
            f"{count} matrices, from {shares[least]:.4g} in {least} to {shares[most]:.4g} in {most}"
            + (f"; {parts_text(parts)}" if parts else "")
        )
    if not uniform.exceptions:
        return f"{count} matrices, each {uniform.sparsity:.4g}" if count > 1 else "in one matrix"
    others = f"{count - len(uniform.exceptions)} of {count} matrices at {uniform.sparsity:.4g}"
    return others + (f" ({parts_text(parts)})" if parts else "") + ", but:"


def _exceptions(uniform: Uniform) -> list[str]:
    shown = [f"  {value:.4f}  {name}" for name, value in uniform.exceptions.items()]
    if len(shown) > _EXCEPTIONS:
        return [*shown[:_EXCEPTIONS], f"  and {len(shown) - _EXCEPTIONS} more (--full)"]
    return shown


def _block(
    heading: str,
    parts: Sequence[Part],
    values: Mapping[str, Callable[[Part], float | None]],
    width: int,
) -> list[str]:
    """Return a table of parts of the encoder, with bars for the last of the values."""
    columns = [Column(heading, [part.label for part in parts])]
    for title, value in values.items():
        found = [value(part) for part in parts]
        shown = [
            "–" if v is None else f"{v:.1%}" if title == "flipped" else f"{v:.4f}" for v in found
        ]
        columns.append(Column(title, shown, right=True))
    most = max((v for v in found if v is not None), default=0.0) or 1.0
    columns.append(Column("", [bar((v or 0.0) / most, _BAR) for v in found]))
    return table(columns, width)


def _matrix_columns(ticket: TicketMetadata, flips: Flips) -> list[Column]:
    entries = ticket.parameters
    columns = [
        Column("matrix", list(entries)),
        Column("shape", ["×".join(map(str, e.shape)) for e in entries.values()], right=True),
        Column("kept", [f"{e.kept:,}" for e in entries.values()], right=True),
        Column("sparsity", [f"{1 - e.kept / e.numel:.4f}" for e in entries.values()], right=True),
    ]
    if flips.counts:
        shares = [f"{flips.counts[name] / e.numel:.1%}" for name, e in entries.items()]
        columns.append(Column("flipped", shares, right=True))
    return columns


def _show_checks(sheet: Sheet, inspection: Inspection, *, full: bool) -> None:
    """Show what verifying found: in a line if nothing is wrong."""
    if inspection.is_valid and not full:
        there = (check for check in inspection.checks if check.detail != ABSENT)
        passed = ", ".join(check.name for check in there if check.passed)
        facts = {"intact": passed}
        left = {f"{c.name}": c.detail for c in inspection.checks if c.passed is None}
        sheet.facts(facts | {f"{name} -": detail for name, detail in left.items()})
        return
    for check in inspection.checks:
        mark = {True: "ok", False: "FAILED", None: "-"}[check.passed]
        sheet.lines([f"{mark:<7} {check.name}: {check.detail}"])


def _show_next(sheet: Sheet, found: TicketMetadata, name: str) -> None:
    """Show what the ticket is good for, and the commands for that."""
    ticket = shlex.quote(printable.cell(name))
    gain, how = "its zeros by themselves make nothing smaller or faster", ""
    if is_sliced(found.pattern):
        gain = "an export is without what it prunes, smaller and faster"
    elif is_cut_from_graphs(found.pattern):
        gain, how = "an export to ONNX is without what it prunes, smaller and faster", _TO_ONNX
    sheet.fact("good for", f"fine-tuning on any task, as a part of its model; {gain}")
    sheet.commands(
        "next",
        [
            f"tamtctl compare {ticket}",
            f"tamtctl finetune python-docs-topic --ticket {ticket}",
            f"tamtctl export {ticket} --output-dir exported{how}",
        ],
    )
