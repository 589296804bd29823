"""Measuring the latency of models with fewer neurons or heads, in turns with the dense model.

The timed model is the one that `tamtctl.export` would write: without what is pruned, with its own
head, run by torch or as an ONNX graph by ONNX Runtime. The time depends only on how many neurons or
heads a layer keeps, not on which ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tamtctl.foundations.devices import check_threads
from tamtctl.foundations.estimates import Interval
from tamtctl.foundations.working import work
from tamtctl.models.encoder import check_length, maskable_matrices, with_shared_weights
from tamtctl.models.fewer_heads import with_heads
from tamtctl.models.heads import NONE
from tamtctl.models.sizes import Size
from tamtctl.models.structures import Structures
from tamtctl.models.timing import (
    Run,
    latency,
    random_texts,
    threads_as_before,
    timed_in_turns,
)
from tamtctl.pruning.latency.backends import check_backend, format_of, loaded_for, opened, run_with
from tamtctl.pruning.latency.counting import count_for_latency
from tamtctl.pruning.latency.record import FoundLatency, with_head
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.patterns.structured import spread
from tamtctl.ticket.exporting.api import export
from tamtctl.ticket.format.patterns import is_sliced, short_noun
from tamtctl.ticket.slicing import slice_neurons
from tamtctl.ticket.ticket import Ticket

_ROUNDS = 11
_SEED = 1  # for tokens, the order of turns, and confidence intervals


def structures_for_latency(
    model: str, pattern: str, target: float, size: Size, backend: str
) -> FoundLatency:
    """Return how many neurons or heads of each layer a search has to keep to reach a latency.

    Args:
        model: Folder or Hub id of the model that is pruned.
        pattern: The sparsity pattern.
        target: The latency, as a share of the dense model's.
        size: Texts, tokens and threads with which both models run.
        backend: What runs both models, one of `tamtctl.pruning.latency.settings.BACKENDS`.

    Raises:
        UsageError: The model has no such structures, cannot be run at this size, or is too slow
            with any number of them; or the packages of the backend are missing.
        ModelError: The model cannot be loaded, its configuration cannot express fewer neurons, or
            it cannot be written as a graph.
    """
    check_threads("latency-threads", size.threads)
    check_backend(backend)
    headed = loaded_for(model, backend)
    dense, head = headed.network, None if headed.head == NONE else headed.head
    check_length(size.length, dense, what="--latency-length")
    shapes = {name: tuple(weight.shape) for name, weight in maskable_matrices(dense).items()}
    layers = find_pattern(pattern).structures(shapes)
    of = max(slices[0].count for slices in layers.values())
    noun = short_noun(pattern)
    whole = run_with(dense, headed.head, size, backend)

    def measure(counts: Sequence[int]) -> Mapping[int, Interval]:
        fewer = (_with_first(count, dense, layers, pattern) for count in counts)
        runs = [run_with(one, headed.head, size, backend) for one in fewer]
        return dict(zip(counts, _ratios([whole, *runs], dense, size), strict=True))

    what = f"the model{with_head(head)}"
    kept, chosen = count_for_latency(measure, target, of, what, noun)
    return FoundLatency(target, size, head, kept, of, chosen, backend=backend, noun=noun)


def exported_latency(ticket: Ticket, model: str, size: Size, backend: str) -> Interval:
    """Return the latency of the model that an export of a ticket gives.

    Args:
        ticket: The ticket.
        model: Folder or Hub id of the ticket's base model.
        size: Texts, tokens and threads with which both models run.
        backend: What runs both models.
    """
    headed = loaded_for(model, backend)
    with TemporaryDirectory() as folder:
        ticket.save_pretrained(Path(folder) / "ticket")
        exported = export(
            Path(folder) / "ticket", Path(folder) / "model", model=model,
            format=format_of(backend),
        )  # fmt: skip
        runs = [
            run_with(headed.network, headed.head, size, backend),
            opened(exported.path, size, backend),
        ]
        return _ratios(runs, headed.network, size)[0]


def _with_first(
    count: int, dense: PreTrainedModel, layers: Structures, pattern: str
) -> PreTrainedModel:
    """Return a model with the first neurons or heads of each layer; it shares all other weights."""
    kept = {layer: torch.arange(one[0].count) < count for layer, one in layers.items()}
    if not is_sliced(pattern):
        return with_heads(dense, kept).network
    network = with_shared_weights(dense)
    masks = {
        one.matrix: spread(one, kept[layer]) for layer, slices in layers.items() for one in slices
    }
    slice_neurons(network, masks)
    return network


def _ratios(runs: Sequence[Run], dense: PreTrainedModel, size: Size) -> list[Interval]:
    """Return each model's latency as a share of the dense model's, all run in turns.

    Args:
        runs: What runs the dense model, and each of the others.
        dense: The dense model.
        size: Texts, tokens and threads with which they run.
    """
    words = cast(nn.Embedding, dense.get_input_embeddings()).num_embeddings
    texts = random_texts(size, words, torch.Generator().manual_seed(_SEED))
    with threads_as_before(), work("timing", len(runs) * _ROUNDS) as tick:
        torch.set_num_threads(size.threads)
        timed = [partial(run, texts) for run in runs]
        beside, *seconds = timed_in_turns(timed, _ROUNDS, _SEED, tick)
    found = (latency(one, beside, _SEED).ratio for one in seconds)
    return [ratio for ratio in found if ratio is not None]
