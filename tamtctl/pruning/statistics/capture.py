"""Capturing the inputs of a model's layers, and the gradients of their weights by sequence.

The gradient of a linear layer's weight on one sequence is δᵀx, with its inputs x and the gradients
δ of its outputs at the tokens of that sequence; if a layer is used several times, x and δ of all
uses are concatenated. So one backward pass of a batch gives the gradient of every sequence, and the
weights need no gradient of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tamtctl.data.batch import Batch
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.statistics.gathering import GradientGatherer, InputGatherer, Inputs
from tamtctl.pruning.statistics.layout import Layout, hooked

_AT_ONCE = 2**22  # numbers in the gradients that are held at once: 16 MB


class Capture:
    """Hands inputs and gradients of layers to the gatherers that add them up."""

    def __init__(self, encoder: Encoder, layout: Layout) -> None:
        self._encoder, self._layout = encoder, layout
        self._inputs: list[tuple[frozenset[str], InputGatherer]] = []
        self._gradients: Sequence[GradientGatherer] = ()
        self._follows_gradients = False
        self._batch: Batch | None = None
        self._uses: dict[str, int] = {}
        self._pending: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add_inputs(self, names: frozenset[str], gatherer: InputGatherer) -> None:
        """Give a gatherer the inputs of some matrices."""
        self._inputs.append((names, gatherer))

    @contextmanager
    def batch(self, batch: Batch, *, gradients: bool) -> Iterator[None]:
        """Capture one batch, which is run in this context.

        Args:
            batch: The batch, on the device of the model.
            gradients: Whether `backward` follows.
        """
        self._batch, self._uses, self._follows_gradients = batch, {}, gradients
        with hooked(self._encoder, self._forward):
            yield
        self._batch = None

    def backward(self, loss: Tensor, to: Sequence[GradientGatherer], *, again: bool) -> None:
        """Run the backward pass of a loss of this batch, and give its gradients to gatherers.

        Args:
            loss: The loss, a sum over the sequences.
            to: The gatherers.
            again: Whether another loss of the same batch follows.
        """
        self._gradients = to
        loss.backward(retain_graph=again)
        for name in list(self._pending):  # matrices with a use that the loss does not depend on
            self._hand_on(name)

    def _forward(
        self, name: str, module: nn.Module, arguments: tuple[Any, ...], output: Tensor
    ) -> Tensor:
        use = self._uses[name] = self._uses.get(name, -1) + 1
        given = arguments[0].detach()
        if wanted := [one for names, one in self._inputs if name in names]:
            inputs = self._of_tokens(name, use, given)
            for gatherer in wanted:
                gatherer.see(name, inputs)
        if not self._follows_gradients:
            return output
        if not output.requires_grad:  # at the first layers
            output = output.detach().requires_grad_()
        output.register_hook(partial(self._backward, name, given))
        return output.clone()  # which the model may write to, and the hook still sees the output

    def _of_tokens(self, name: str, use: int, given: Tensor) -> Inputs:
        assert self._batch is not None
        is_table, times = name in self._layout.tables, 1
        values = given.flatten() if is_table else given.flatten(0, -2)
        if self._layout.is_of_tokens[name][use]:
            is_flat = given.shape[:2] != self._batch.input_ids.shape
            values = self._batch.at_tokens(given if is_flat else given.flatten(0, 1))
            values = values if is_table else values.flatten(0, -2)
        else:
            times = len(self._batch.input_ids)
        if is_table:
            return Inputs(values=None, tokens=values, times=times)
        return Inputs(values=values.float(), tokens=None, times=times)

    def _backward(self, name: str, given: Tensor, gradient: Tensor) -> None:
        pending = self._pending.setdefault(name, [])
        pending.append((given, gradient.detach()))
        if len(pending) == len(self._layout.is_of_tokens[name]):
            self._hand_on(name)

    @torch.no_grad()
    def _hand_on(self, name: str) -> None:
        """Give the gradients of a matrix, summed over all of its uses, to the gatherers."""
        assert self._batch is not None
        rows, uses = len(self._batch.input_ids), self._pending.pop(name)
        deltas = _together([delta.float() for _, delta in uses], rows)  # (B, S, out)
        if name in self._layout.tables:
            tokens = torch.cat([ids.reshape(rows, -1) for ids, _ in uses], 1)  # (B, S)
            sums, which = _of_tables(tokens, deltas, self._layout.shapes[name][0])
            for gatherer in self._gradients:
                gatherer.see(name, sums, which)
            return
        inputs = _together([given.float() for given, _ in uses], rows)  # (B, S, in)
        out, into = self._layout.shapes[name]
        at_once = max(1, _AT_ONCE // (out * into))
        for start in range(0, rows, at_once):
            some = slice(start, start + at_once)
            gradients = torch.bmm(deltas[some].transpose(1, 2), inputs[some])  # (b, out, in)
            for gatherer in self._gradients:
                gatherer.see(name, gradients, None)


def _together(uses: Sequence[Tensor], rows: int) -> Tensor:
    """Return all uses concatenated by sequence, shape (B, S, width)."""
    return torch.cat([one.reshape(rows, -1, one.shape[-1]) for one in uses], 1)


def _of_tables(tokens: Tensor, deltas: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the sum of δ per token and sequence, (rows, width), and these tokens, (rows,)."""
    sequence = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
    pairs, place = (sequence * size + tokens).flatten().unique(return_inverse=True)
    sums = deltas.new_zeros(len(pairs), deltas.shape[-1])
    sums.index_add_(0, place, deltas.flatten(0, 1))
    return sums, pairs % size
