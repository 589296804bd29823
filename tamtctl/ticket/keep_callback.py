"""A callback that keeps a ticket's zeros in the Trainer of transformers."""

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
    before. Resuming, loading the best model at the end, and `SentenceTransformerTrainer` work, too.
    ``tamtctl.kept_zeros(model).release()`` lets the zeros go.

    Example:
        >>> callback = tamtctl.KeepZeros("nano-0.7")
        >>> Trainer(model, arguments, callbacks=[callback])  # doctest: +SKIP
    """

    def __init__(self, ticket: Ticket | Path | str | None = None) -> None:
        """Load the ticket.

        Args:
            ticket: A ticket, or its folder, packaged name or Hub id; None: the zeros that the model
                already holds are kept, as those of an exported checkpoint.

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
        """Apply the ticket if it was not yet applied to this model.

        This happens if the callback was added to an existing Trainer, or if every training makes a
        new model (``model_init``).

        Raises:
            TamtctlError: The ticket is not for this model, or there are no zeros; or the Trainer's
                optimiser exists already and would miss parameters that were untied.
        """
        if model is None:
            return
        if untied := self._keep(model):
            raise TicketError(
                f"{untied[0]} got weights of its own, which the Trainer's optimiser does not know; "
                "apply the ticket with keep=True where the model is made (in model_init)"
            )

    def _keep(self, model: nn.Module) -> tuple[str, ...]:
        """Keep the zeros if that was not done yet; return the names of untied parameters."""
        if kept := kept_zeros(model):
            if self._ticket is not None and not kept.are_of(self._ticket):
                raise TicketError(
                    "the model keeps the zeros of another mask already; load the pre-trained "
                    "weights again for this ticket"
                )
            return ()
        if self._ticket is None:
            keep_zeros(model)
            return ()
        # Delta masks need the pre-trained weights, so they cannot be checked in trained ones.
        if self._ticket.encoding != "delta" and self._ticket.is_applied_to(model):
            self._ticket.keep(model)
            return ()
        return self._ticket.apply(model, keep=True).untied
