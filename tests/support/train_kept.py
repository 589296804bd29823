"""Training models whose zeros are kept, in every wrapping of several processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    logging,
)

from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.ticket import Ticket


def load(folder: Path) -> Any:
    """Load a checkpoint with the head of a task, which is random if it is new."""
    torch.manual_seed(0)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a new head is as it should be
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    logging.set_verbosity(level)
    return model


def batch() -> dict[str, Tensor]:
    """Return random tokens and labels."""
    return {"input_ids": torch.randint(5, 60, (4, 8)), "labels": torch.tensor([0, 1, 0, 1])}


def train(model: Any, optimizer: Optimizer, steps: int, *, accumulate: int = 1) -> None:
    """Train as anybody would."""
    model.train()
    for step in range(steps * accumulate):
        model(**batch()).loss.backward()
        if (step + 1) % accumulate == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


def main_of(environment: dict[str, str], source: Path, ticket: Path, output: Path) -> None:
    """Train as one of the processes of a job, which the environment speaks of."""
    os.environ.update(environment)
    torch.distributed.init_process_group("gloo")
    try:
        with (output / f"told-{environment['RANK']}").open("w") as told:
            main(source, Ticket.load(ticket), output, told)
    finally:
        torch.distributed.destroy_process_group()


def main(source: Path, ticket: Ticket, output: Path, told: TextIO) -> None:
    """Train in every wrapping, and tell how what cannot be is refused."""
    rank = torch.distributed.get_rank()
    for name in ("ddp", "compiled-ddp"):
        model = load(source)
        wrapped: Any = DistributedDataParallel(model)
        if name == "compiled-ddp":
            wrapped = torch.compile(wrapped, backend="eager")
        ticket.apply(wrapped, keep=True)
        torch.manual_seed(rank)  # other examples in each process
        train(wrapped, torch.optim.AdamW(wrapped.parameters(), 1e-2, weight_decay=0.1), 3)
        for parameter in model.parameters():
            of_first = parameter.detach().clone()
            torch.distributed.broadcast(of_first, 0)
            assert torch.equal(parameter, of_first)
        model.save_pretrained(output / name)  # the first process does
    tied = DistributedDataParallel(AutoModelForMaskedLM.from_pretrained(source))
    sharded = FullyShardedDataParallel(load(source), device_id=torch.device("cpu"))
    for what, given in (("decoder", tied), ("sharded", sharded)):
        try:
            ticket.apply(given, keep=True)
        except TicketError as error:
            told.write(f"{what}: {error}\n")
    for how in ("by wrapping", "in place"):
        model = load(source)
        ticket.apply(model, keep=True)
        if how == "in place":
            fully_shard(model)
        else:
            model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
        try:
            model(**batch())
        except TicketError as error:
            told.write(f"sharded {how}: {error}\n")
