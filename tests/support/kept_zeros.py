"""Whether zeros were kept, and an optimiser that torch does not have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tamtctl.models.encoder import maskable_matrices
from tamtctl.ticket.ticket import Ticket


def has_its_zeros(model: Any, ticket: Ticket) -> bool:
    """Whether exactly the pruned weights are zero: +0.0, bit for bit."""
    matrices = maskable_matrices(model)
    assert set(ticket.parameters) <= set(matrices)
    return all(
        torch.equal(matrices[name].detach().view(torch.int32) != 0, ticket.mask(name))
        for name in ticket.parameters
    )


class Lion(Optimizer):
    """The sign of a moment: an update that has no zeros."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {"lr": 1e-3})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.grad is not None:
                moment = self.state[parameter].setdefault("m", torch.ones_like(parameter))
                moment.mul_(0.9).add_(parameter.grad, alpha=0.1)
                parameter.data.add_(moment.sign(), alpha=-1e-3)
