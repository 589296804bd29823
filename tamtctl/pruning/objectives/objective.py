"""What a mask is trained for: a sum of terms, each a file of `tamtctl.pruning.objectives`.

All terms run on an unmodified transformers model whose parameters hold the folded weights W ⊙ m
(see `tamtctl.pruning.trained.folded_weights`); the teacher and the masked-LM decoder use the dense
weights W.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tamtctl.data.batch import Batch
from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import Encoder
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.pruning.objectives import Term, terms_of
from tamtctl.pruning.objectives.outputs import Outputs, at_least_float32
from tamtctl.pruning.objectives.pooling import sentence_pooling
from tamtctl.ticket.heads import head_parameters


class Objective:
    """The pre-training loss of an encoder, per target (TAMT, §3.3).

    Making one unties the model's decoder from its input embeddings and freezes everything but the
    maskable matrices and the head's own parameters.

    Attributes:
        name: A term such as ``mlm``, or a sum of several such as ``mlm+kd``.
        group_size: How many rows of held-out text are compared with each other; 1: none are.
        head: Name → parameter of the masked-LM head that trains along: its transform and output
            bias, never the decoder's matrix. Empty if no term needs a head.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        dense: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor] | None = None,
        pooling: SentencePipeline | None = None,
    ) -> None:
        """Prepare ``encoder`` for the objective ``name``.

        Args:
            encoder: Loaded with its head if a term needs it.
            name: A term, or a sum of several.
            dense: Name → pre-trained weight of every matrix in ``encoder.matrices``; kept, not
                copied, and never written.
            teacher: Name → weight of ``encoder.base`` when it acts as the teacher; by default
                ``dense``.
            pooling: How sentence embeddings are made, if a term needs them; by default as the
                model's own files say.

        Raises:
            ModelError: A term needs sentence embeddings, and the model does not say how it makes
                them.
        """
        self.name = name
        self._terms = terms_of(name)
        self.group_size = self._terms.group_size
        self._model, self._base = encoder.model, encoder.base
        self._dense = dict(dense)
        self._teacher = self._dense if teacher is None else dict(teacher)
        if pooling is None or not self._terms.need_embeddings:
            pooling = sentence_pooling(encoder.id, encoder.revision, self._terms)
        self._pooling = pooling
        self._states = _StatesForHead(pooling is not None)
        self._base.register_forward_hook(self._states.keep_masked_positions)
        self.head = self._untied_head() if self._terms.need_head else {}
        trainable = {id(p) for p in [*encoder.matrices.values(), *self.head.values()]}
        for parameter in self._model.parameters():
            parameter.requires_grad_(id(parameter) in trainable)

    @property
    def teaches_itself(self) -> bool:
        """Whether the teacher has the same dense weights that are masked."""
        return self._teacher is self._dense

    def by_text(self) -> tuple[Objective, ...]:
        """Return an objective for each of its parts that is measured on a text of its own."""
        parts = []
        for terms in self._terms.by_text:
            part = copy(self)
            part.name, part._terms = terms.name, terms
            parts.append(part)
        return tuple(parts)

    def terms(
        self,
        batch: Batch,
        *,
        dropout: bool = False,
        others: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return term → the loss of each of its targets in a batch, shape (targets,).

        Args:
            batch: Input of shape (B, T) with n masked positions; clean text if no term needs noise.
            dropout: Leave the student's dropout on; the teacher's is always off.
            others: As in `Outputs`.

        Raises:
            UsageError: The losses of a term that was registered from outside are not those of its
                targets.
        """
        teacher = self._of_teacher(batch) if self._terms.need_teacher else None
        self._model.train(dropout)
        student, last_states = self._student(batch)
        outputs = Outputs(
            logits=student.logits.squeeze(0) if self._terms.need_head else None,  # (n, V)
            states=student.hidden_states[1:] if self._terms.need_states else (),
            teacher=teacher.hidden_states[1:] if teacher else (),
            embeddings=self._embeddings(last_states, batch),
            teacher_embeddings=self._embeddings(teacher.last_hidden_state, batch)
            if teacher
            else None,
            others=others,
        )
        losses = {term.name: term.loss(outputs, batch) for term in self._terms}
        for term in self._terms:
            if term.is_foreign:
                _check(term, losses[term.name], batch)
        return losses

    @torch.no_grad()
    def embeddings(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sentence embeddings of the masked and of the dense model, each (B, D)."""
        teacher = self._of_teacher(batch).last_hidden_state
        _, student = self._student(batch)
        found = self._embeddings(student, batch), self._embeddings(teacher, batch)
        return cast("tuple[Tensor, Tensor]", found)  # callers have a term that needs them

    def blocks(self, batch: Batch) -> dict[str, Tensor]:
        """Return term → which row of a batch each of its targets is in, shape (targets,).

        The loss of a term is the mean over its targets.
        """
        return {term.name: term.blocks(batch) for term in self._terms}

    def _student(self, batch: Batch) -> tuple[Any, Tensor]:
        """Return the masked model's output for a batch, and its last hidden states, (B, T, H)."""
        has_head = self._terms.need_head
        module = self._model if has_head else self._base
        self._states.positions = batch.masked if has_head else None
        try:
            output = module(
                **_inputs(batch), output_hidden_states=self._terms.need_states, return_dict=True
            )
            last = self._states.all_positions if has_head else output.last_hidden_state
            return output, cast(Tensor, last)
        finally:
            self._states.positions = self._states.all_positions = None

    def _embeddings(self, states: Tensor, batch: Batch) -> Tensor | None:
        """Return the sentence embeddings of last hidden states, (B, D), if a term needs them."""
        if self._pooling is None:
            return None
        attended = batch.attention_mask
        if attended is None:
            attended = torch.ones_like(batch.input_ids)
        return self._pooling.embeddings(at_least_float32(states), attended)

    @torch.no_grad()
    def _of_teacher(self, batch: Batch) -> Any:
        """Return the dense model's output for a batch, with all hidden states.

        The teacher is the same module called with other weights: there is no second model.
        """
        self._model.eval()
        options = _inputs(batch) | {"output_hidden_states": True, "return_dict": True}
        return functional_call(self._base, self._teacher, (), options)

    def _untied_head(self) -> dict[str, nn.Parameter]:
        """Give the decoder a dense copy of the embeddings, and return the head's parameters.

        A mask covers the look-up of a word's embedding, not its use as the word's output weights.
        """
        decoder = self._model.get_output_embeddings()
        embeddings = self._base.get_input_embeddings().weight
        if decoder.weight is embeddings:
            (name,) = (n for n, p in self._base.named_parameters() if p is embeddings)
            if name in self._dense:  # else the embeddings are not masked, and the tie is harmless
                decoder.weight = nn.Parameter(self._dense[name], requires_grad=False)
        return head_parameters(self._model)


class _StatesForHead:
    """The hook that gives a head only the masked positions of the encoder's last hidden states.

    It knows no model: a cycle would keep the model in memory until Python's collector runs.

    Attributes:
        positions: Those that are masked; None leaves the states as they are.
        all_positions: The states (B, T, H) of the last forward pass, if they are wanted.
    """

    def __init__(self, wants_all: bool) -> None:
        self._wants_all = wants_all
        self.positions: Tensor | None = None
        self.all_positions: Tensor | None = None

    def keep_masked_positions(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Give the head, of any kind, only the masked positions, shape (1, n, H).

        The loss needs only these 15 % of the head's tokens-by-vocabulary logits.
        """
        if self.positions is not None:
            states = output.last_hidden_state  # (B, T, H)
            self.all_positions = states if self._wants_all else None
            output["last_hidden_state"] = states.flatten(0, 1)[self.positions].unsqueeze(0)
        return output


def _inputs(batch: Batch) -> dict[str, Any]:
    """Return a model's keyword arguments; without an attention mask if nothing is padded."""
    if batch.attention_mask is None:
        return {"input_ids": batch.input_ids}
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


def _check(term: Term, losses: Tensor, batch: Batch) -> None:
    """Check the losses of a term that was registered from outside.

    Raises:
        UsageError: There is not one for each target, a target is in no row, or nothing follows from
            them for the weights.
    """
    rows = term.blocks(batch)
    if len(losses) != len(rows):
        raise UsageError(
            f"the term {term.name!r} has {len(losses)} losses for {len(rows)} targets; padding is "
            "no target: leave it out by Batch.at_tokens"
        )
    if rows.dtype != torch.int64 or (
        len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(batch.input_ids)
    ):
        raise UsageError(
            f"blocks of the term {term.name!r} must give int64 numbers of rows, from 0 to "
            f"{len(batch.input_ids) - 1} in this batch"
        )
    if torch.is_grad_enabled() and not losses.requires_grad:
        raise UsageError(
            f"the losses of the term {term.name!r} have no gradient: they must be computed from "
            "the outputs, without detach or no_grad"
        )
