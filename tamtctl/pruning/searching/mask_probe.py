"""Measuring masks of one model on held-out text: the one way in which everybody does it.

A search measures its mask beside the baselines, a comparison many masks, an evaluation one ticket:
each folds W ⊙ m into the live model and takes the loss of every target of the same text and noise.
A mask in memory is enough for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tamtctl.data.batches import evaluation_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Sequences
from tamtctl.data.units import UNITS
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.loss_units import ScoredText, SequenceFacts
from tamtctl.models.encoder import Encoder, max_sequence_length
from tamtctl.pruning.objectives import terms_of
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss, check_targets, held_out_losses
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.trained.folded_weights import fold

_ROWS_COMPARED = 16  # of a batch in which a term compares them: no loss depends on a batch size

if TYPE_CHECKING:
    from tamtctl.data.corpus import Corpus


@dataclass(frozen=True)
class ProbeText:
    """Held-out text, cut into sequences, that there is something to measure on.

    Attributes:
        sequences: The text.
        facts: What a person is told of them.
        noise: Masked tokens for the terms that need them; None if none does.
        limit: So many sequences are measured at most, spread over the text.
    """

    sequences: Sequences
    facts: SequenceFacts
    noise: Noise | None
    limit: int

    @classmethod
    def cut(
        cls,
        text: Corpus,
        encoder: Encoder,
        *,
        sequence_length: int,
        noise: Noise | None,
        limit: int,
        part: str | None = None,
    ) -> ProbeText:
        """Cut the held-out part of a corpus.

        Args:
            text: The corpus.
            encoder: What it is measured with.
            sequence_length: Tokens of each sequence, at most.
            noise: Masked tokens, if they are needed.
            limit: Sequences to measure on at most.
            part: What an error calls the text, if not the held-out text of the corpus.

        Raises:
            CorpusError: It is too short, or nothing of it can be measured.
        """
        part = part or f"the held-out text of {text.name}"
        sequences = text.held_out_text(sequence_length, encoder.tokenizer, name=part)
        check_targets(sequences, noise=noise, limit=limit, text=text.name)
        return cls(sequences, sequences.facts(text.rows, text.held_out_unknown), noise, limit)

    def scored(self, name: str) -> ScoredText:
        """Return what a person is told of the text, under a name."""
        there, rows = self.facts.count, self.facts.rows
        return ScoredText(
            name,
            min(self.limit, there),
            there,
            self.facts.longest,
            None if UNITS[rows].is_packed else rows,
        )


def check_sequence_length(length: int, encoder: Encoder, *, told: str, remedy: str) -> None:
    """Refuse sequences that are longer than a model can take.

    Args:
        length: Tokens of each.
        encoder: The model.
        told: How the length was told, as an error begins.
        remedy: What to give instead, up to the number that is possible.

    Raises:
        UsageError: They are too long.
    """
    if length > (longest := max_sequence_length(encoder.model)):
        raise UsageError(
            f"{told} {length} is more than model {encoder.id!r} can take; {remedy} at most "
            f"{longest}"
        )


@dataclass(frozen=True)
class MaskProbe:
    """Measures masks of a model whose parameters it folds them into.

    Attributes:
        encoder: On its device.
        frozen: Name → pre-trained weight W of every matrix that a mask may prune, there as well.
        objectives: What is measured, one after the other.
        compute: Where and in which precision.
        batch_size: Sequences at once.
    """

    encoder: Encoder
    frozen: Mapping[str, Tensor]
    objectives: tuple[Objective, ...]
    compute: Compute
    batch_size: int = 16

    def losses(self, text: ProbeText, masks: Mapping[str, Tensor] | None) -> dict[str, HeldOutLoss]:
        """Return term → loss of the model under masks.

        Args:
            text: What to measure on.
            masks: Name → boolean mask of every matrix in ``frozen``, at least, on any device; None:
                the dense model.
        """
        if masks is None:
            masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.frozen.items()}
        masks = {name: masks[name].to(self.compute.device) for name in self.frozen}
        fold(self.encoder.matrices, self.frozen, masks)
        found = self.losses_as_folded(text)
        if all(bool(mask.all()) for mask in masks.values()):
            found |= {  # 0 but for rounding
                term.name: found[term.name].of_nothing()
                for objective in self.objectives
                if objective.teaches_itself
                for term in terms_of(objective.name)
                if term.is_distance
            }
        return found

    def losses_as_folded(self, text: ProbeText) -> dict[str, HeldOutLoss]:
        """Return term → loss of the model with the weights that its parameters hold now."""
        found: dict[str, HeldOutLoss] = {}
        for objective in self.objectives:
            noise = text.noise if terms_of(objective.name).need_noise else None
            is_compared = terms_of(objective.name).compare_rows
            rows = _ROWS_COMPARED if is_compared else self.batch_size
            batches = evaluation_batches(text.sequences, rows, noise=noise, limit=text.limit)
            found |= held_out_losses(objective, batches, self.compute.autocast, self.compute.device)
        return found
