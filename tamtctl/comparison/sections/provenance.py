"""How a comparison was made: command, versions, machine, date, texts, seeds and hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.found import Found, Table
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.opening import Opened, OpenedTicket
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.subnetworks import steps_of
from tamtctl.foundations.environment import published_env
from tamtctl.foundations.typed_command import typed_command
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.patterns import UNSTRUCTURED

_VERSIONS = ("tamtctl", "python", "torch", "transformers")
_MACHINE = ("platform", "cpu", "cuda")


@dataclass(frozen=True)
class Provenance(Found):
    """What a reader needs to repeat the comparison.

    Attributes:
        rows: Pairs of name and value.
    """

    rows: Sequence[tuple[str, str]]

    def table(self) -> Table:
        """Return the names and values as a table."""
        return Table(["what", "here"], self.rows, words=2)


def find(comparison: Comparison, opened: Opened) -> Provenance:
    """Return how the comparison was made, without paths of this machine."""
    return Provenance(list(_rows(comparison, opened)))


def _rows(comparison: Comparison, opened: Opened) -> Iterator[tuple[str, str]]:
    config = comparison.config
    machine = published_env()
    yield "command", typed_command("compare", config)
    yield "date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield "versions", ", ".join(f"{name} {machine[name]}" for name in _VERSIONS)
    yield "machine", "; ".join(f"{name}: {machine[name]}" for name in _MACHINE)
    weights = opened.bench.weights
    total = sum(weight.numel() for weight in weights.values())
    yield "model", f"{comparison.model}, {total:,} weights in {len(weights)} maskable matrices"
    for text in comparison.texts:
        yield "held-out text", str(text)
    yield from _seeds(comparison, config)
    for label, ticket in opened.tickets.items():
        yield label, _of_ticket(ticket)
    if config.sparsities:
        yield from _methods(comparison, opened)
    for task, found in comparison.subnetworks[0].metrics.items():
        what = "examples, without training" if config.is_without_training(task) else "dev examples"
        yield f"task {task}", f"{found.metric}, {found.runs[0].examples:,} {what}"


def _seeds(comparison: Comparison, config: CompareConfig) -> Iterator[tuple[str, str]]:
    for method in dict.fromkeys(one.label for one in comparison.subnetworks):
        seeds = [
            str(one.seed)
            for one in comparison.subnetworks
            if one.label == method and one.seed is not None
        ]
        if seeds:
            yield f"seeds of {method}", ", ".join(dict.fromkeys(seeds))
    if not all(map(config.is_without_training, config.tasks)):
        yield "seeds of fine-tuning", ", ".join(map(str, config.task_seeds))


def _methods(comparison: Comparison, opened: Opened) -> Iterator[tuple[str, str]]:
    """Yield the settings of each method of a sweep, for each sparsity where they differ."""
    first: dict[tuple[str, float], Cell] = {}  # the seeds of a cell have the same settings
    for cell in opened.cells:
        first.setdefault((cell.method, cell.sparsity), cell)
    for cell in first.values():
        search = opened.config.search_config(cell)
        seeds = [
            one
            for one in comparison.subnetworks
            if (one.method, one.sparsity) == (cell.method, cell.sparsity)
        ]
        told = "; ".join(_hyperparameters(search, steps_of(seeds)))
        if told:
            yield f"{cell.facts.label} at {cell.sparsity:g}", told


def _hyperparameters(search: SearchConfig, steps: str) -> Iterator[str]:
    if search.is_trained:
        yield f"{steps} steps of {search.batch_size} × {search.sequence_length} tokens at most"
        yield f"peak rate {search.learning_rate:g}"
        if search.weight_decay:
            yield f"weight decay {search.weight_decay:g}"
        yield "dropout" if search.dropout else "no dropout"
    if search.method == TAMT:
        yield f"scores {search.init_scores} from {search.init}"
        yield f"rate of the head {search.head_rate:g}"
    if search.method == IMP:
        yield f"a cut every {search.prune_every} steps, rewound to {search.rewind}"
    if any(row.needs_text for row in search.criteria):
        yield f"{search.calibration_tokens:,} tokens of calibration"
    if search.budgets_by is not None:
        yield f"allocation {search.allocation} by {search.budgets_by.name}"
    if search.word_floor:
        yield f"each word keeps at least {search.word_floor:.0%} of the mean"
    if search.pattern != UNSTRUCTURED:
        yield f"pattern {search.pattern}"


def _of_ticket(given: OpenedTicket) -> str:
    """Return what a ticket states of its search; the ticket may be untrusted."""
    ticket = given.ticket
    told = [f"method {ticket.method}"]
    if ticket.objective:
        told.append(f"objective {ticket.objective}")
    names = ("seed", "steps", "batch_size", "sequence_length", "learning_rate", "init")
    told += [
        f"{name.replace('_', ' ')} {ticket.search[name]}"
        for name in names
        if isinstance(ticket.search.get(name), int | float | str)
    ]
    return "; ".join(told)
