"""Measuring the latency of models with fewer neurons, in turns with the dense model.

The timed model is the one that `tamtctl.export` would write: without the pruned neurons, with its
own head. The time depends only on how many neurons are pruned, not on which ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tamtctl.foundations.estimates import Interval
from tamtctl.foundations.working import work
from tamtctl.models.encoder import check_length, maskable_matrices
from tamtctl.models.heads import NONE, HeadedModel
from tamtctl.models.sizes import Size
from tamtctl.models.structures import Structures
from tamtctl.models.timing import (
    check_threads,
    latency,
    random_texts,
    run_of,
    threads_as_before,
    timed_in_turns,
)
from tamtctl.pruning.latency.counting import count_for_latency
from tamtctl.pruning.latency.record import FoundLatency, with_head
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.patterns.structured import spread
from tamtctl.ticket.exporting import export
from tamtctl.ticket.slicing import slice_neurons
from tamtctl.ticket.ticket import Ticket

_ROUNDS = 11
_SEED = 1  # for tokens, the order of turns, and confidence intervals


def neurons_for_latency(model: str, pattern: str, target: float, size: Size) -> FoundLatency:
    """Return how many neurons a search has to keep to reach a latency.

    Args:
        model: Folder or Hub id of the model that is pruned.
        pattern: The sparsity pattern, whose structures are neurons.
        target: The latency, as a share of the dense model's.
        size: Texts, tokens and threads with which both models run.

    Raises:
        UsageError: The model has no neurons, cannot be run at this size, or is too slow with any
            number of neurons.
        ModelError: The model cannot be loaded, or its configuration cannot express fewer neurons.
    """
    check_threads("latency-threads", size.threads)
    headed = HeadedModel.as_it_is(model)
    dense, head = headed.network, None if headed.head == NONE else headed.head
    check_length(size.length, dense, told="--latency-length")
    shapes = {name: tuple(weight.shape) for name, weight in maskable_matrices(dense).items()}
    layers = find_pattern(pattern).structures(shapes)
    of = max(slices[0].count for slices in layers.values())

    def measure(counts: Sequence[int]) -> Mapping[int, Interval]:
        models = [_with_first(count, dense, layers) for count in counts]
        return dict(zip(counts, _ratios(dense, models, size), strict=True))

    what = f"the model{with_head(head)}"
    neurons, chosen = count_for_latency(measure, target, of, what)
    return FoundLatency(target, size, head, neurons, of, chosen)


def exported_latency(ticket: Ticket, model: str, size: Size) -> Interval:
    """Return the latency of the model that an export of a ticket gives.

    Args:
        ticket: The ticket.
        model: Folder or Hub id of the ticket's base model.
        size: Texts, tokens and threads with which both models run.
    """
    dense = HeadedModel.as_it_is(model).network
    with TemporaryDirectory() as folder:
        ticket.save_pretrained(Path(folder) / "ticket")
        export(Path(folder) / "ticket", Path(folder) / "model", model=model)
        exported = HeadedModel.as_it_is(str(Path(folder) / "model")).network
        return _ratios(dense, [exported], size)[0]


def _with_first(count: int, dense: PreTrainedModel, layers: Structures) -> PreTrainedModel:
    """Return a model with the first neurons of each layer, which shares all else with ``dense``."""
    module = cast(nn.Module, dense)
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    network: PreTrainedModel = deepcopy(dense, shared)
    masks = {
        one.matrix: spread(one, torch.arange(one.count) < count)
        for slices in layers.values()
        for one in slices
    }
    slice_neurons(network, masks)
    return network


def _ratios(
    dense: PreTrainedModel, others: Sequence[PreTrainedModel], size: Size
) -> list[Interval]:
    """Return each model's latency as a share of the dense model's, all run in turns."""
    words = cast(nn.Embedding, dense.get_input_embeddings()).num_embeddings
    texts = random_texts(size, words, torch.Generator().manual_seed(_SEED))
    runs = [partial(run_of(cast(nn.Module, one)), texts) for one in (dense, *others)]
    with threads_as_before(), work("timing", len(runs) * _ROUNDS) as tick:
        torch.set_num_threads(size.threads)
        beside, *seconds = timed_in_turns(runs, _ROUNDS, _SEED, tick)
    found = (latency(one, beside, _SEED).ratio for one in seconds)
    return [ratio for ratio in found if ratio is not None]
