"""The shelf of terms: pre-training losses; an objective is one term or a sum such as ``a+b``.

Imports nothing heavy. To add one: a file beside this one, and a row in `TERMS`; from another
package or a script the same by `register`. Search, compare, evaluate and the report then know it
and its sums. The file defines

    loss(outputs: Outputs, batch: Batch) -> Tensor    the loss of each target, (targets,)
    blocks(batch: Batch) -> Tensor                    the row that each target is in, (targets,)

see `tamtctl.pruning.objectives.outputs`. Padding is no target: `Batch.at_tokens` leaves it out.
Example: `mlm`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.shelves import Row, Shelf

if TYPE_CHECKING:
    from torch import Tensor

    from tamtctl.data.batch import Batch
    from tamtctl.pruning.objectives.outputs import Outputs


ROWS_COMPARED = 16  # the loss of a term that compares rows depends on their number


@dataclass(frozen=True, kw_only=True)
class Term(Row):
    """A term: a pre-training loss, and facts about it for other code.

    Attributes:
        label: What sentences and headings call it, such as ``MLM loss``.
        unit: The unit of the loss.
        short_unit: The unit, short enough for a column of a table.
        axis: Label of a figure's axis, before the unit.
        is_formula: Whether the unit is a formula, which stands in brackets behind a number.
        needs_head: Whether it takes logits, for which the model needs its pre-trained masked-LM
            head.
        needs_noise: Whether it takes text with masked tokens.
        needs_states: Whether it takes the hidden states of the masked model.
        needs_teacher: Whether it takes the hidden states of both the dense and the masked model.
        needs_embeddings: Whether it takes sentence embeddings, which the model's files must
            describe.
        compares_rows: Whether the loss of a row depends on the other rows of its batch.
        suits_sentences: Whether it is part of the default objective of a model that embeds
            sentences.
        is_distance: Whether it is 0 by definition if the mask prunes nothing.
        version: Raise it whenever the same masks would give other losses: cached losses of an older
            version are then measured again.
        style: Colour and marker in figures of masks trained for it; None takes the next free one.
    """

    label: str
    unit: str
    short_unit: str
    axis: str
    is_formula: bool = False
    needs_head: bool = False
    needs_noise: bool = False
    needs_states: bool = False
    needs_teacher: bool = False
    needs_embeddings: bool = False
    compares_rows: bool = False
    suits_sentences: bool = False
    is_distance: bool = False
    version: int = 1
    style: tuple[str, str] | None = None

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss of each target of a batch, shape (targets,).

        Raises:
            UsageError: It has another shape.
        """
        from torch import Tensor

        loss: Tensor = self.function("loss", gives=Tensor)(outputs, batch)
        if loss.dim() != 1:
            raise UsageError(
                f"the term {self.name!r} gives losses of shape {list(loss.shape)}; it needs one "
                "for each target, of shape [targets]"
            )
        return loss

    def blocks(self, batch: Batch) -> Tensor:
        """Return which row of a batch each target is in, shape (targets,), int64."""
        from torch import Tensor

        blocks: Tensor = self.function("blocks", gives=Tensor)(batch)
        return blocks


class Terms(tuple[Term, ...]):
    """The terms of one objective, and what they need together."""

    __slots__ = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the terms."""
        return tuple(term.name for term in self)

    @property
    def need_head(self) -> bool:
        """Whether the model needs its pre-trained masked-LM head."""
        return any(term.needs_head for term in self)

    @property
    def need_noise(self) -> bool:
        """Whether the text has masked tokens."""
        return any(term.needs_noise for term in self)

    @property
    def need_states(self) -> bool:
        """Whether the hidden states of the masked model are needed."""
        return any(term.needs_states or term.needs_teacher for term in self)

    @property
    def need_teacher(self) -> bool:
        """Whether the hidden states of the dense model are needed."""
        return any(term.needs_teacher for term in self)

    @property
    def need_embeddings(self) -> bool:
        """Whether the model has to say how it makes sentence embeddings."""
        return any(term.needs_embeddings for term in self)

    @property
    def compare_rows(self) -> bool:
        """Whether a loss of a row depends on the other rows of its batch."""
        return any(term.compares_rows for term in self)

    @property
    def group_size(self) -> int:
        """How many rows of held-out text are compared with each other; 1: none are."""
        return ROWS_COMPARED if self.compare_rows else 1

    @property
    def name(self) -> str:
        """The name of the objective."""
        return "+".join(self.names)

    @property
    def by_text(self) -> tuple[Terms, ...]:
        """The terms that are measured on the same text: those on masked text, and the others.

        A training takes both on masked text; but a loss of its own name has one meaning.
        """
        return tuple(
            Terms(term for term in self if term.needs_noise == noisy)
            for noisy in dict.fromkeys(term.needs_noise for term in self)
        )

    @property
    def unit(self) -> str:
        """The unit of the objective; of a sum, the units of its terms joined by ``+``."""
        if len(self) == 1:
            return self[0].unit
        return " + ".join(f"({t.unit})" if t.is_formula else t.short_unit for t in self)

    @property
    def short_unit(self) -> str:
        """The unit, short enough for a column of a table."""
        if len(self) == 1:
            return self[0].short_unit
        return "+".join(f"({t.short_unit})" if t.is_formula else t.short_unit for t in self)

    def written(self, loss: str) -> str:
        """Return a formatted loss with its unit behind it."""
        is_formula = len(self) > 1 or self[0].is_formula
        return f"{loss} ({self.unit})" if is_formula else f"{loss} {self.unit}"


TERMS: Shelf[Term] = Shelf(
    "term of an objective",
    [
        Term(
            name="mlm",
            code="tamtctl.pruning.objectives.mlm",
            label="MLM loss",
            unit="nats per masked token",
            short_unit="nats",
            axis="masked-LM loss",
            needs_head=True,
            needs_noise=True,
            style=("#0072B2", "o"),
        ),
        Term(
            name="kd",
            code="tamtctl.pruning.objectives.kd",
            label="KD loss",
            unit="1 − cosine",
            short_unit="1−cos",
            axis="distance to the dense model",
            is_formula=True,
            needs_teacher=True,
            suits_sentences=True,
            is_distance=True,
            style=("#D55E00", "s"),
        ),
        Term(
            name="embedding",
            code="tamtctl.pruning.objectives.embedding",
            label="embedding loss",
            unit="1 − cosine of embeddings",
            short_unit="1−cos emb.",
            axis="distance to the dense model's embeddings",
            is_formula=True,
            needs_teacher=True,
            needs_embeddings=True,
            suits_sentences=True,
            is_distance=True,
            style=("#56B4E9", "v"),
        ),
        Term(
            name="similarity",
            code="tamtctl.pruning.objectives.similarity",
            label="similarity loss",
            unit="|Δ cosine| of two embeddings",
            short_unit="|Δcos|",
            axis="difference of similarities",
            is_formula=True,
            needs_teacher=True,
            needs_embeddings=True,
            compares_rows=True,
            is_distance=True,
            style=("#F0E442", "p"),
        ),
    ],
)
register = TERMS.register


def objectives() -> tuple[str, ...]:
    """Return every objective: each term, and each sum of several in the order of the shelf."""
    sizes = range(1, len(TERMS) + 1)
    sums = itertools.chain.from_iterable(itertools.combinations(TERMS, size) for size in sizes)
    return tuple(map("+".join, sums))


def terms_of(objective: str) -> Terms:
    """Return the terms of an objective.

    Raises:
        UsageError: A part of it is no term.
    """
    return Terms(map(TERMS.find, objective.split("+")))


def headless() -> Term:
    """Return the first term that suits any encoder: it needs no masked-LM head and no pooling."""
    return next(t for t in TERMS.values() if not (t.needs_head or t.needs_embeddings))


def usual_for_sentences() -> str:
    """Return the default objective of a model that embeds sentences."""
    return "+".join(term.name for term in TERMS.values() if term.suits_sentences)


def short_unit(objective: str | None) -> str:
    """Return the short unit of a ticket's objective; empty if a term of it is not on the shelf."""
    names = (objective or "").split("+")
    return terms_of("+".join(names)).short_unit if TERMS.keys() >= set(names) else ""
