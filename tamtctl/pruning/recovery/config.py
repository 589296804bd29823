"""The settings of a recovery, each declared once; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.data.units import rows_setting
from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import at_least, positive, require, seed_number
from tamtctl.foundations.config import (
    DATA,
    METHOD,
    RUN,
    TRAINING,
    Config,
    Typed,
    configuration,
    setting,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives import objectives, usual_for_sentences
from tamtctl.pruning.settings import MOST_STEPS, STEPS_RANGE
from tamtctl.ticket.local_names import ticket_names
from tamtctl.training.loggers.setting import log_to


@configuration
class RecoverConfig(Config):
    """Which ticket is recovered, on what text, and for how long.

    Example:
        >>> recovery = tamtctl.RecoverConfig(ticket=result.ticket, corpus="my-text.txt", steps=2)
        >>> recovery.corpus
        ('my-text.txt',)
    """

    ticket: str = setting(
        help="A ticket: its folder, packaged name or Hub id org/name[@revision].",
        panel=METHOD,
        proposed=ticket_names,
        typed=Typed(is_argument=True),
    )
    model: str | None = setting(
        default=None,
        help="Where the ticket's base model is, if elsewhere.",
        panel=DATA,
        is_common=True,
    )
    corpus: Sequence[str] = setting(
        default=(),
        help="Text to train on, named as in search; by default that of the ticket's search.",
        panel=DATA,
        is_common=True,
    )
    held_out: Sequence[str] = setting(
        default=(),
        help="Text to measure on; by default a stable tenth of the corpus.",
        panel=DATA,
    )
    check_corpus: Sequence[str] = setting(
        default=(),
        help="Text of a second domain; losses are taken on its held-out tenth, too.",
        panel=DATA,
    )
    text_column: str | None = shared.text_column()
    rows: str | None = rows_setting("as the ticket was trained")
    objective: str | None = setting(
        default=None,
        help="Loss that the surviving weights are trained to lower, one of {choices}, or a sum "
        f"in this order; by default {usual_for_sentences()} for a model of sentence-transformers, "
        "else kd.",
        more="The teacher is the dense model itself.",
        is_common=True,
        panel=METHOD,
        choices=objectives,
    )
    steps: int | None = setting(
        default=None,
        help="Optimiser steps; or give --minutes.",
        is_common=True,
        panel=TRAINING,
        check=lambda option, value: require(option, 1 <= value <= MOST_STEPS, STEPS_RANGE, value),
    )
    minutes: float | None = setting(
        default=None,
        help="Train for about this many minutes.\n\nThe number of steps follows once, from the "
        "first steps' measured pace, and stays, also after an interruption.",
        more="The result says how many, and --steps with that number gives the same weights.",
        is_common=True,
        panel=TRAINING,
        check=positive,
    )
    batch_size: int = shared.batch_size(default=32)
    micro_batch_size: int | None = shared.micro_batch_size()
    sequence_length: int | None = setting(
        default=None,
        help="Tokens per sequence, special tokens included; by default as the ticket was trained.",
        panel=TRAINING,
        check=at_least(8),
    )
    learning_rate: float = setting(
        default=2e-4,
        help="Peak rate.\n\nIt rises over the first twentieth of the steps and falls to 0.",
        is_common=True,
        panel=TRAINING,
        check=positive,
    )
    max_grad_norm: float = shared.max_grad_norm()
    dropout: bool = shared.dropout(default=False)
    evaluation_blocks: int = setting(
        default=512,
        help="Held-out sequences to measure on at most.",
        panel=DATA,
        check=at_least(1),
        typed=None,
    )
    precision: str = shared.precision()
    device: str = shared.device()
    threads: int | None = shared.threads()
    seed: int = setting(default=1, help="Seed of noise and order.", panel=RUN, check=seed_number)
    checkpoint_every: int | None = shared.checkpoint_every(at_least(1))
    log_to: str | None = log_to()

    def _check_together(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError(
                "a recovery takes as long as you say: give either --minutes, such as "
                "--minutes 30, or --steps"
            )

    def as_search(self, model: str, steps: int = 1) -> SearchConfig:
        """Return the search that has the same text, batches and objective.

        Args:
            model: The ticket's base model, as it can be loaded.
            steps: Optimiser steps.
        """
        same = (
            "corpus", "held_out", "check_corpus", "text_column", "rows", "objective",
            "batch_size", "micro_batch_size", "sequence_length", "learning_rate", "max_grad_norm",
            "dropout", "evaluation_blocks", "precision", "device", "threads", "seed",
        )  # fmt: skip
        return SearchConfig(
            sparsity=0.0, model=model, steps=steps, **{name: getattr(self, name) for name in same}
        )
