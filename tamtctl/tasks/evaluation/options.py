"""Which options go with what is measured: one that would be ignored is refused."""

from __future__ import annotations

from collections.abc import Iterable

from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.objectives import TERMS, Term, objectives, terms_of
from tamtctl.tasks.benchmarks.table import all_without_training, zero_shot_tasks
from tamtctl.tasks.evaluation.checkpoint import OWN, PUBLIC
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.measures import MEASURES
from tamtctl.ticket.ticket import Ticket

PREDICT = "--predict"  # named in errors as what an option is for, like a task


def check_options(config: EvaluateConfig, kind: str) -> None:
    """Refuse options that do not apply to what is measured.

    Args:
        config: The request.
        kind: What is measured: an objective, a name of `all_without_training`, a benchmark,
            or one of ``PUBLIC``, ``OWN`` and ``PREDICT``.

    Raises:
        UsageError: There is one; the message says what it is for.
    """
    losses = objectives()
    table: dict[str, tuple[object, tuple[str, ...]]] = {
        "--model": (config.model, all_without_training()),
        "--data-dir": (config.data_dir, (*zero_shot_tasks(), PUBLIC)),
        "--dev": (config.dev, (OWN,)),
        "--text-column": (config.text_columns, (*losses, OWN, PREDICT)),
        "--label-column": (config.label_column, (OWN,)),
        "--corpus": (config.corpus, losses),
        "--rows": (config.rows, losses),
        "--held-out-tenth": (config.held_out_tenth, losses),
        "--head": (config.head, tuple(loss for loss in losses if terms_of(loss).need_head)),
        "--sequence-length": (config.sequence_length, losses),
        "--blocks": (config.blocks, losses),
    }
    for row in MEASURES.values():
        for option, name in zip(row.options, row.needs, strict=True):
            table[option] = (getattr(config, name), (row.name,))
    for option, (value, kinds) in table.items():
        if value and kind not in kinds:
            raise UsageError(
                f"{option} does not go with {kind}: it is for {', '.join(kinds)}; leave it out"
            )


def check_model(config: EvaluateConfig, task: str, ticket: Ticket | None) -> None:
    """Refuse ``--model`` if a model itself is evaluated, unless a term compares the two."""
    if not config.model or ticket or (task in objectives() and terms_of(task).need_teacher):
        return
    taught = needing("teacher", TERMS.values())
    raise UsageError(f"--model is for a ticket and for {taught}, and {config.name} is no ticket")


def needing(what: str, terms: Iterable[Term]) -> str:
    """Return the names of the terms that need a ``head`` or a ``teacher``, for a message."""
    *others, last = (term.name for term in terms if getattr(term, f"needs_{what}"))
    return f"{', '.join(others)} and {last}" if others else last
