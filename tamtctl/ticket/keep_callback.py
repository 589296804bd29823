"""A callback that keeps a ticket's zeros for people who train with the Trainer of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.keeping import keep_zeros, kept_zeros
from tamtctl.ticket.ticket import Ticket


class KeepZeros(TrainerCallback):
    """Applies a ticket when a Trainer is made, and keeps its zeros as long as the model lives.

    The model may hold the pre-trained weights, or be a checkpoint to which the ticket was applied
    before. Resuming, the best model at the end, and `SentenceTransformerTrainer` are fine;
    ``tamtctl.kept_zeros(model).release()`` lets the zeros go.

    Example:
        >>> callback = tamtctl.KeepZeros("nano-0.7")
        >>> Trainer(model, arguments, callbacks=[callback])  # doctest: +SKIP
    """

    def __init__(self, ticket: Ticket | Path | str | None = None) -> None:
        """Load the ticket.

        Args:
            ticket: A ticket, or the path, name or Hub id of one; None keeps the zeros that the
                model holds by itself, as an exported checkpoint does.

        Raises:
            TicketError: There is no such ticket, or it is damaged.
        """
        self._ticket: Ticket | None
        if ticket is None or isinstance(ticket, Ticket):
            self._ticket = ticket
        else:
            self._ticket = Ticket.from_pretrained(ticket)

    def on_init_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **others: Any,
    ) -> None:
        """Apply the ticket to the model that the Trainer was given.

        Raises:
            TamtctlError: The ticket is not for this model, or there are no zeros.
        """
        if model is not None:
            self._keep(model)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **others: Any,
    ) -> None:
        """Apply the ticket if that has not happened to this model yet.

        That is so where the callback was added to a finished Trainer, and where every training
        makes a model of its own (``model_init``).

        Raises:
            TamtctlError: The ticket is not for this model, or there are no zeros; or the Trainer
                has made an optimiser that would miss parameters of the model.
        """
        if model is None or kept_zeros(model):
            return
        if untied := self._keep(model):
            raise TicketError(
                f"{untied[0]} got weights of its own, which the Trainer's optimiser does not know; "
                "apply the ticket with keep=True where the model is made (in model_init)"
            )

    def _keep(self, model: nn.Module) -> tuple[str, ...]:
        """Keep the zeros, unless that is done; return what was untied."""
        if kept_zeros(model):
            return ()
        if self._ticket is None:
            keep_zeros(model)
            return ()
        # Masks that are a difference to the pre-trained weights are known with these alone.
        if self._ticket.encoding != "delta" and self._ticket.is_applied_to(model):
            self._ticket.keep(model)
            return ()
        return self._ticket.apply(model, keep=True).untied
