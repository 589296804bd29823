"""What every mask of a comparison is measured on: one model and its held-out texts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from tamtctl.comparison.measures import loss_measure
from tamtctl.models.encoder import Checksums
from tamtctl.pruning.criteria import REFERENCE
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks, reference_masks
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.ticket.packed_masks import PackedMasks
from tamtctl.ticket.ticket import Ticket

Texts = Mapping[str, HeldOutText]  # name in tables (empty if there is only one) → the text


@dataclass(frozen=True, eq=False)
class Bench:
    """A model with its held-out texts; what all masks share is computed once and kept.

    Attributes:
        texts: The held-out texts, each with the model; several if tickets were trained on several.
        pattern: The sparsity pattern of the masks of a sweep.
    """

    texts: Texts
    pattern: str = UNSTRUCTURED
    _references: dict[tuple[str, tuple[tuple[str, int], ...]], PackedMasks] = field(
        default_factory=dict
    )

    @property
    def text(self) -> HeldOutText:
        """The first text, with the model; a sweep has no other."""
        return next(iter(self.texts.values()))

    @cached_property
    def weights(self) -> Mapping[str, Tensor]:
        """Name → pre-trained weight of every maskable matrix of the checkpoint, on the CPU."""
        return self.text.weights

    @cached_property
    def checksums(self) -> Mapping[str, str]:
        """Name → checksum of the pre-trained weight, as tickets have it."""
        return Checksums(self.weights)

    def counts(self, sparsity: float) -> dict[str, int]:
        """Return name → how many weights are kept where every matrix has the same sparsity.

        Matrices that the pattern leaves dense are left out.
        """
        return keep_counts(self.weights, sparsity, self.pattern, self.text.encoder.embeddings)

    def masks_of(self, ticket: Ticket) -> PackedMasks:
        """Return the masks of a ticket of the model.

        Raises:
            TicketError: It is a ticket of other weights, or damaged.
        """
        self.check(ticket)
        return PackedMasks.of_ticket(ticket, self.weights)

    def check(self, ticket: Ticket, remedy: str | None = None) -> None:
        """Check that a ticket was found for the weights of this model.

        Args:
            ticket: The ticket.
            remedy: What the error advises to do.

        Raises:
            TicketError: It is a ticket of other weights.
        """
        ticket.check_weights(
            self.weights,
            model=self.text.encoder.id if remedy else None,
            remedy=remedy,
            checksums=self.checksums,
        )

    def one_shot(
        self, method: str, seed: int | None, counts: Mapping[str, int], pattern: str
    ) -> Mapping[str, Tensor]:
        """Return name → boolean mask of a one-shot method.

        Args:
            method: A criterion that needs no text.
            seed: The seed of the masks; None where the method has none.
            counts: Name → how many weights are kept, of every matrix that is masked.
            pattern: The sparsity pattern of the masks.
        """
        if method == REFERENCE:
            return self.reference(counts, pattern).unpacked()
        weights = {name: self.weights[name] for name in counts}
        return one_shot_masks(method, Context(weights=weights, seed=seed or 0), counts, pattern)

    def reference(self, counts: Mapping[str, int], pattern: str) -> PackedMasks:
        """Return the magnitude masks with these counts; flips are counted against them.

        Args:
            counts: Name → how many weights are kept, of every matrix that is masked.
            pattern: The sparsity pattern of the masks.
        """
        key = pattern, tuple(sorted(counts.items()))
        if key not in self._references:
            self._references[key] = PackedMasks.of(reference_masks(self.weights, counts, pattern))
        return self._references[key]

    def completed(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return name → mask of every matrix; the mask of one that stays dense is all ones."""
        return {
            name: masks[name] if name in masks else torch.ones_like(weight, dtype=torch.bool)
            for name, weight in self.weights.items()
        }

    def losses(
        self, masks: Mapping[str, Tensor] | None, terms: Collection[str] | None = None
    ) -> dict[str, HeldOutLoss]:
        """Return measure → loss, for each term on every text.

        Args:
            masks: Name → boolean mask; a matrix without one stays dense. None: the dense model.
            terms: The terms that are measured; None: all.
        """
        masks = None if masks is None else self.completed(masks)
        return self._by_measure({n: text.losses(masks, terms) for n, text in self.texts.items()})

    def losses_of_weights(self, weights: Mapping[str, Tensor]) -> dict[str, HeldOutLoss]:
        """Return measure → loss of the encoder with other weights in place of its own.

        Args:
            weights: Name in the base encoder → weight, of the same shape as there.
        """
        return self._by_measure(
            {n: one.losses_of_weights(weights) for n, one in self.texts.items()}
        )

    def _by_measure(self, found: Mapping[str, Mapping[str, HeldOutLoss]]) -> dict[str, HeldOutLoss]:
        return {
            loss_measure(term, label): found[label][term]
            for term in self.text.terms
            for label in self.texts
            if term in found[label]
        }

    def choosing_loss(self, masks: Mapping[str, Tensor], term: str) -> HeldOutLoss:
        """Return the loss of a mask on the part of the training text that choices are made on.

        Args:
            masks: Name → boolean mask; a matrix without one stays dense.
            term: The term of the loss.
        """
        return self.choosing_text.losses(self.completed(masks), [term])[term]

    @cached_property
    def choosing_text(self) -> HeldOutText:
        """The part of the training text that choices are made on; no table reports it."""
        return self.text.of_training()
