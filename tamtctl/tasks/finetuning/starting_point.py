"""What fine-tuning starts from: a pre-trained model with a ticket applied, or the dense one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import ModelError, TamtctlError, TicketError
from tamtctl.foundations.public_names import LocalPaths, public_model
from tamtctl.models.encoder import fingerprint, maskable_matrices
from tamtctl.models.loading import load_config
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.own_zeros import is_fine_tuned, is_recovered, zeros_to_keep
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.loading import load_for_training
from tamtctl.tasks.task import Task
from tamtctl.ticket.applying import apply
from tamtctl.ticket.base_model import load_base
from tamtctl.ticket.finding import locate_base, resolve_ticket
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.format.reader import TicketReader
from tamtctl.ticket.listing import TicketLine, known_tickets
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, TICKET

_DEFAULT_SPARSITY = 0.7  # of the packaged ticket that is the default


def with_default_ticket(config: FinetuneConfig) -> tuple[FinetuneConfig, str]:
    """Return the configuration with a ticket or a model, and a line that says which and why.

    The default ticket is the newest one under ``runs/``, else the packaged one whose sparsity is
    nearest to 0.7; with a ``model``, only its tickets count. With ``dense``, the default is the
    base model of that ticket.

    Raises:
        TamtctlError: No ticket is at hand.
    """
    if config.ticket:
        return config, f"ticket {config.ticket}"
    if config.model and (config.dense or config.keep_zeros is not None):
        return config, f"model {config.model}, without a ticket"
    if config.model and is_recovered(config.model):
        return config, f"model {config.model}, a recovered checkpoint"
    known = world().on_first(known_tickets)  # processes may have different disks
    wanted = config.model and public_model(config.model)[0]
    tickets = [t for t in known if wanted is None or t.base_model in (wanted, config.model)]
    under_runs = [t for t in tickets if t.path.parent.parent == RUNS]
    if under_runs:
        ticket = max(under_runs, key=lambda t: (t.path / METADATA_FILE).stat().st_mtime_ns)
        why = "the newest under runs/"
    elif tickets:
        ticket = min(tickets, key=lambda t: abs(t.sparsity - _DEFAULT_SPARSITY))
        why = "packaged, as there is none under runs/"
    elif config.model and is_fine_tuned(config.model):
        return config, f"model {config.model}, a fine-tuned checkpoint"
    else:
        of_model = f" of model {config.model}" if config.model else ""
        raise TamtctlError(
            f"no ticket{of_model} at hand; give one with --ticket, find one with tamtctl search "
            "--sparsity 0.7, or fine-tune the full model with --dense"
            + ("" if config.model else " --model MODEL")
        )
    if config.dense:
        model = config.model or _model_of(ticket)
        line = f"dense model {model}, which {ticket.name} is for ({why})"
        return replace(config, model=model), line
    line = f"ticket {ticket.name} ({why}); choose with --ticket or --dense"
    return replace(config, ticket=ticket.name), line


def _model_of(line: TicketLine) -> str:
    """Return the name or folder of a listed ticket's base model."""
    base = TicketReader(line.path).read_metadata().base_model
    return locate_base(base, LocalPaths.read(line.path, base.fingerprint))[0]


@dataclass(frozen=True)
class StartingPoint:
    """What is fine-tuned: a model, and a ticket to apply to it.

    Attributes:
        model: ``nano``, a folder or a Hub id.
        revision: The commit that the ticket is for; None for the newest.
        ticket: The ticket, decoded; None for the dense model.
        digest: SHA-256 of the ticket's metadata file, which has the checksums of its other files.
        short_name: The part of the run folder's name that stands for the ticket or the model.
        keep_zeros: Whether the model's own zeros are kept; None:
            `tamtctl.tasks.finetuning.own_zeros` decides.
    """

    model: str
    revision: str | None
    ticket: Ticket | None
    digest: str | None
    short_name: str
    keep_zeros: bool | None = None

    @classmethod
    def of(cls, config: FinetuneConfig) -> StartingPoint:
        """Find the model and ticket of a configuration, and verify the ticket."""
        if config.ticket is None:
            assert config.model is not None
            short_name = f"dense-{Path(config.model).name}"
            return cls(config.model, None, None, None, short_name, config.keep_zeros)
        path = resolve_ticket(config.ticket).path
        ticket = Ticket.load(path)
        model, revision = ticket.find_base(config.model)
        digest = file_sha256(path / METADATA_FILE)
        folder = path.parent if path.name == TICKET else path
        if ticket.encoding == "delta":  # its masks are stored relative to the model's weights
            ticket = _decoded(ticket, config.model)
        return cls(model, revision, ticket, digest, folder.name.removeprefix("search-"))

    @cached_property
    def pruned(self) -> dict[str, Tensor]:
        """Name → mask of the ticket on the CPU, decoded once; True prunes."""
        ticket = self.ticket
        return {} if ticket is None else {name: ~ticket.mask(name) for name in ticket.parameters}

    @property
    def width(self) -> int:
        """The hidden size of the model, read from its configuration file.

        Raises:
            ModelError: The configuration has none.
        """
        config = load_config(self.model, self.revision)
        width = getattr(config.get_text_config(), "hidden_size", None)
        if not isinstance(width, int):
            raise ModelError(f"the configuration of model {self.model!r} has no hidden_size")
        return width

    def load(
        self,
        task: Task,
        seed: int,
        *,
        scale: LabelScale | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> tuple[PreTrainedModel, dict[str, Tensor]]:
        """Load the model with a head for the task and apply the ticket.

        Args:
            task: The task.
            seed: Seed of the head, if it is new.
            scale: The scale of the labels in training; None: they are not scaled.
            note: Is given notes on the head.

        Returns:
            The model, and name → mask of its pruned weights (True prunes) on the CPU.
        """
        torch.manual_seed(seed)  # for the head, if the checkpoint lacks it
        model, _ = load_for_training(task, self.model, self.revision, scale=scale, note=note)
        if self.ticket is None:
            return model, zeros_to_keep(model, self.model, self.keep_zeros, note)
        try:
            names = apply(self.ticket, model, pruned=self.pruned).applied
        except TicketError as error:
            if not (self.ticket.sparsity and self.ticket.is_applied_to(model)):
                raise TicketError(
                    f"the ticket does not fit model {self.model!r}: {error}"
                ) from error
            note(f"model {self.model} was trained with this ticket before, and goes on with it")
            names = tuple(self.ticket.parameters.keys() & maskable_matrices(model).keys())
        return model, {name: self.pruned[name] for name in names}

    def describe(self, model: PreTrainedModel) -> dict[str, Any]:
        """Return ``model`` and ``ticket`` as plain JSON values.

        Args:
            model: The model that `load` returned.
        """
        if self.ticket:
            base = self.ticket.base_model.fingerprint
        else:
            weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
            base = fingerprint(weights)[0]
        return {
            "model": {"id": self.model, "fingerprint": base},
            "ticket": self.ticket and self.ticket.describe(),
        }


def _decoded(ticket: Ticket, model: str | None) -> Ticket:
    """Return a ticket of the delta encoding with its masks decoded, for which it needs its base.

    A ``model`` that was trained after pruning no longer holds the pre-trained weights; then they
    are taken from the ticket's own base model.
    """
    try:
        return ticket.decode(load_base(ticket, model).weights)
    except TicketError:
        if ticket.find_base() == ticket.find_base(model):
            raise
        return ticket.decode(load_base(ticket).weights)
