"""Measuring masks of one model on held-out text, for search, comparison and evaluation alike.

A search measures its mask beside the baselines, a comparison many masks, an evaluation one ticket.
Each folds W ⊙ m into the live model and takes the loss of every target, with the same text and
noise. The mask need not be saved as a ticket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.data.batches import evaluation_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Sequences
from tamtctl.data.units import UNITS
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.measured_text import MeasuredText, SequenceFacts
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.objectives import terms_of
from tamtctl.pruning.objectives.held_out_loss import check_targets, held_out_losses, no_losses
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.searching import cached_losses
from tamtctl.pruning.searching.cached_losses import CachedLosses, Losses
from tamtctl.pruning.trained.folded_weights import fold

if TYPE_CHECKING:
    from tamtctl.data.corpus import Corpus


@dataclass(frozen=True)
class ProbeText:
    """Held-out text, cut into sequences and checked to have targets.

    Attributes:
        sequences: The text.
        facts: A description of the sequences for people.
        noise: Masked tokens for the terms that need them; None if none does.
        limit: Most sequences that are measured, spread over the text.
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
    ) -> ProbeText:
        """Cut the held-out part of a corpus.

        Args:
            text: The corpus.
            encoder: The model that is measured.
            sequence_length: Most tokens of a sequence.
            noise: Masks tokens for the terms that need it; None if none does.
            limit: Most sequences that are measured.

        Raises:
            CorpusError: The text is too short, or has no targets.
        """
        name = f"the text of {text.held_out_name}"
        sequences = text.held_out_text(sequence_length, encoder.tokenizer, name=name)
        check_targets(sequences, noise=noise, limit=limit, text=text.held_out_name)
        return cls(sequences, sequences.facts(text.rows, text.held_out_unknown), noise, limit)

    def scored(self, name: str) -> MeasuredText:
        """Return a description of the text for people, under a name."""
        there, rows = self.facts.count, self.facts.rows
        return MeasuredText(
            name,
            min(self.limit, there),
            there,
            self.facts.longest,
            None if UNITS[rows].is_packed else rows,
        )


@dataclass(frozen=True)
class MaskProbe:
    """Measures masks of a model by folding them into its parameters.

    Attributes:
        encoder: The model on its device.
        frozen: Name → pre-trained weight W of every matrix that a mask may prune, on the same
            device.
        objectives: The objectives that are measured, one after the other.
        compute: Device and precision.
        batch_size: Sequences in a batch, unless a term compares them.
        cache: The cache of losses; None measures everything anew.
    """

    encoder: Encoder
    frozen: Mapping[str, Tensor]
    objectives: tuple[Objective, ...]
    compute: Compute
    batch_size: int = 16
    cache: CachedLosses | None = None

    @cached_property
    def _parts(self) -> tuple[Objective, ...]:
        return tuple(part for objective in self.objectives for part in objective.by_text())

    def losses(self, text: ProbeText, masks: Mapping[str, Tensor] | None) -> Losses:
        """Return term → loss of the model under masks.

        Args:
            text: The text to measure on.
            masks: Name → boolean mask, for at least every matrix in ``frozen``, on any device;
                None: the dense model.
        """
        if masks is None:
            masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.frozen.items()}
        masks = {name: masks[name].to(self.compute.device) for name in self.frozen}
        found: Losses = {}
        for objective in self._parts:
            batches = list(self._batches(text, objective))
            file = self.cache and self.cache.file_of(objective.name, batches, masks)
            known = file and cached_losses.read(file, terms_of(objective.name).names)
            if not known:
                known = self._measured(objective, batches, masks)
                if file:
                    cached_losses.write(file, known)
            found |= known
        return found

    def _measured(
        self, objective: Objective, batches: Sequence[Batch], masks: Mapping[str, Tensor]
    ) -> Losses:
        is_dense = all(bool(mask.all()) for mask in masks.values())
        terms = terms_of(objective.name)
        nothing = {
            term.name
            for term in terms
            if is_dense and objective.teaches_itself and term.is_distance
        }
        if len(nothing) == len(terms):
            return no_losses(objective, batches)
        fold(self.encoder.matrices, self.frozen, masks)
        found = self._of(objective, batches)
        # The dense model's distance to itself is 0 but for rounding.
        return found | {term: found[term].of_nothing() for term in nothing}

    def losses_as_folded(self, text: ProbeText) -> Losses:
        """Return term → loss of the model with the weights that its parameters hold now."""
        found: Losses = {}
        for objective in self._parts:
            found |= self._of(objective, self._batches(text, objective))
        return found

    def _of(self, objective: Objective, batches: Iterable[Batch]) -> Losses:
        return held_out_losses(objective, batches, self.compute.autocast, self.compute.device)

    def _batches(self, text: ProbeText, objective: Objective) -> Iterator[Batch]:
        noise = text.noise if terms_of(objective.name).need_noise else None
        if (size := objective.group_size) > 1:  # rows that happen to meet, for independent batches
            return evaluation_batches(
                text.sequences, size, noise=noise, limit=text.limit, is_mixed=True
            )
        return evaluation_batches(text.sequences, self.batch_size, noise=noise, limit=text.limit)
