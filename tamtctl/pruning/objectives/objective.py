"""What a mask is trained for: masked language modelling, knowledge distillation, or their sum.

All three run on an unmodified transformers model whose parameters hold the folded weights W ⊙ m
(see `tamtctl.pruning.trained.folded_weights`); the dense weights W serve as the teacher's and the
decoder's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor, nn
from torch.func import functional_call

from tamtctl.data.batches import Batch
from tamtctl.models.loading import Encoder
from tamtctl.ticket.heads import head_parameters


class Objective:
    """The pre-training loss of an encoder, per target (TAMT, §3.3).

    Making one unties the model's decoder from its input embeddings and freezes everything but the
    maskable matrices and the head's own parameters.

    Attributes:
        name: ``mlm``, ``kd`` or ``mlm+kd``.
        head: Name → parameter of the masked-LM head that trains along: its transform and output
            bias, never the decoder's matrix. Empty for ``kd``.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        dense: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Prepare ``encoder`` for the objective ``name``.

        Args:
            encoder: Loaded with its head if the objective has an ``mlm`` part.
            name: ``mlm``, ``kd`` or ``mlm+kd``.
            dense: Name → pre-trained weight of every matrix in ``encoder.matrices``; kept, not
                copied, and never written.
            teacher: Name → weight of ``encoder.base`` with which it is the teacher; by default
                ``dense``.
        """
        self.name = name
        self._has_mlm, self._has_kd = "mlm" in name, "kd" in name
        self._model, self._base = encoder.model, encoder.base
        self._dense = dict(dense)
        self._teacher = self._dense if teacher is None else dict(teacher)
        self._positions: Tensor | None = None
        self._base.register_forward_hook(self._keep_masked_positions)
        self.head = self._untied_head() if self._has_mlm else {}
        trainable = {id(p) for p in [*encoder.matrices.values(), *self.head.values()]}
        for parameter in self._model.parameters():
            parameter.requires_grad_(id(parameter) in trainable)

    def terms(self, batch: Batch, *, dropout: bool = False) -> dict[str, Tensor]:
        """Return the loss of every target: ``mlm`` of shape (n,), ``kd`` of shape (B * T,).

        Args:
            batch: Input of shape (B, T) with n masked positions; ``kd`` alone takes clean text.
            dropout: Leave the student's dropout on; the teacher's is always off.
        """
        terms: dict[str, Tensor] = {}
        teacher = self._teacher_states(batch.input_ids) if self._has_kd else ()
        self._model.train(dropout)
        student = self._student(batch)
        if self._has_mlm:
            logits = _at_least_float32(student.logits.squeeze(0))  # (n, V)
            terms["mlm"] = F.cross_entropy(logits, batch.labels, reduction="none")
        if self._has_kd:
            terms["kd"] = mean_cosine_distance(student.hidden_states[1:], teacher)
        return terms

    def targets(self, batch: Batch) -> dict[str, int]:
        """Return how many targets each term of a batch has: its loss is the mean over them."""
        counts = {"mlm": batch.masked.numel(), "kd": batch.input_ids.numel()}
        return {term: counts[term] for term in self.name.split("+")}

    def _student(self, batch: Batch) -> Any:
        module = self._model if self._has_mlm else self._base
        self._positions = batch.masked if self._has_mlm else None
        try:
            return module(
                input_ids=batch.input_ids, output_hidden_states=self._has_kd, return_dict=True
            )
        finally:
            self._positions = None

    @torch.no_grad()
    def _teacher_states(self, input_ids: Tensor) -> Sequence[Tensor]:
        """Return the dense model's hidden states of layers 1 to L, each (B, T, H).

        The teacher is the same module called with other weights: there is no second model.
        """
        self._model.eval()
        options = {"input_ids": input_ids, "output_hidden_states": True, "return_dict": True}
        output = functional_call(self._base, self._teacher, (), options)
        return output.hidden_states[1:]  # type: ignore[no-any-return]

    def _keep_masked_positions(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Let the head see only the masked positions, (1, n, H), whatever head it is.

        Of the head's work, a tokens-by-vocabulary matrix, 15 % is all that the loss needs.
        """
        if self._positions is not None:
            states = output.last_hidden_state  # (B, T, H)
            output["last_hidden_state"] = states.flatten(0, 1)[self._positions].unsqueeze(0)
        return output

    def _untied_head(self) -> dict[str, nn.Parameter]:
        """Give the decoder the dense embeddings for its own, and return the head's parameters.

        A mask covers the look-up of a word's embedding, not its use as the word's output weights.
        """
        decoder = self._model.get_output_embeddings()
        embeddings = self._base.get_input_embeddings().weight
        if decoder.weight is embeddings:
            (name,) = (n for n, p in self._base.named_parameters() if p is embeddings)
            if name in self._dense:  # else no mask is put on them, and both stay as they are
                decoder.weight = nn.Parameter(self._dense[name], requires_grad=False)
        return head_parameters(self._model)


def mean_cosine_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return 1 - cos of two stacks of hidden states (B, T, H), averaged over layers: (B * T,)."""
    distances = [
        1 - F.cosine_similarity(_at_least_float32(s), _at_least_float32(t), dim=-1)  # (B, T)
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(distances).mean(0).flatten()


def _at_least_float32(values: Tensor) -> Tensor:
    """Losses need more digits than bfloat16 has."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
