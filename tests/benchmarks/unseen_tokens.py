"""Masked-LM losses of tickets on tokens that the calibration of criteria never saw, and on others.

A criterion knows nothing of a token that its text lacks. The masked tokens of a held-out text are
split by whether the calibration text has them.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tamtctl.data.batches import evaluation_batches, training_batches
from tamtctl.foundations.devices import Compute
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.pruning.statistics.calibration import SEED, calibration_batches, rows_at_once
from tamtctl.pruning.trained.folded_weights import fold
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.texts import TextSource
from tamtctl.ticket.ticket import Ticket


def main() -> bool:
    """Print the losses of nano, dense and as tickets, and return that it could be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks unseen_tokens")
    parser.add_argument("tickets", nargs="+")
    parser.add_argument("--text", help="a text of another kind; by default the held-out tenth")
    told = parser.parse_args()
    config = SearchConfig.from_recipe("nano", sparsity=0.5)
    text = HeldOutText.open(
        "nano",
        TextSource(
            tuple(config.corpus),
            held_out=(told.text,) if told.text else (),
            sequence_length=config.sequence_length,
        ),
        limit=512,
        compute=Compute.choose("cpu", "fp32"),
    )
    seen = _calibrated(text, config)
    table = Table("mask", "seen", "never seen", "share of targets never seen")
    for name in ("dense", *told.tickets):
        losses, labels = _losses(text, name)
        is_seen = np.isin(labels, seen)
        parts = (losses[is_seen].mean(), losses[~is_seen].mean(), 1 - is_seen.mean())
        table.add_row(name, *(f"{part:.3f}" for part in parts))
    Console().print(table)
    return True


def _calibrated(text: HeldOutText, config: SearchConfig) -> np.ndarray:
    """Return the ids of all tokens of the calibration text."""
    whole = text.training_text()
    batches = training_batches(whole, rows_at_once(config.sequence_length), SEED, noise=None)
    chosen = calibration_batches(batches, config.calibration_tokens, len(whole))
    return np.unique(np.concatenate([batch.input_ids.numpy().ravel() for batch in chosen]))


@torch.no_grad()
def _losses(text: HeldOutText, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return loss and id of every masked token, each of shape (n,)."""
    masks = {name: torch.ones_like(weight).bool() for name, weight in text.frozen.items()}
    if name != "dense":
        ticket = Ticket.load(resolve_ticket(name).path).encode("bits", text.weights)
        masks |= ticket.masks
    fold(text.encoder.matrices, text.frozen, {name: masks[name] for name in text.frozen})
    batches = evaluation_batches(text.cut.sequences, 16, noise=text.cut.noise, limit=512)
    found = [(text.objectives["mlm"].terms(b)["mlm"].numpy(), b.labels.numpy()) for b in batches]
    losses, labels = zip(*found, strict=True)
    return np.concatenate(losses), np.concatenate(labels)
