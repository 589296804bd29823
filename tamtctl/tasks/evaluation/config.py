"""What an evaluation is told; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tamtctl.foundations.checks import one_of, require
from tamtctl.foundations.config import DEVICES, PRECISIONS, plain
from tamtctl.foundations.settings import settle
from tamtctl.tasks.labelled.columns import check_columns

HEADS = ("pretrained", "ticket")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to score on what.

    Attributes:
        name: A ticket, a model or a fine-tuned checkpoint: folder, packaged name or Hub id.
        task: A task, ``mlm``, ``kd``, ``mlm+kd`` or ``stsb-zero-shot``; None: what ``name`` was
            fine-tuned on, else what a ticket was trained for, else ``mlm``.
        model: The model that a ticket is for, where it is not where it was; with ``kd``, the dense
            model that any other encoder is compared with.
        data_dir: A folder of the task's files; by default as in fine-tuning, or the Hub.
        dev: Another labelled file for a checkpoint of a task of one's own.
        text_columns: Columns of a corpus, of ``dev`` or of text to label; by default the task's.
        label_column: Column of the label in ``dev``; by default the task's.
        corpus: Text for ``mlm`` and ``kd``, all of which is scored but what the ticket was trained
            on. By default ``python-docs``, of which, as of Hub datasets with a validation split,
            the held-out part is scored.
        held_out_tenth: Score only the tenth of ``corpus`` that a search would hold out.
        head: The masked-LM head: ``pretrained``, as by default, or the ``ticket``'s own.
        sequence_length: Tokens per block of text; by default what the ticket was trained on.
        blocks: So many blocks at most, spread over the text; by default 512.
        batch_size: Examples or blocks at once.
        precision: As in `FinetuneConfig`.
        device: As in `FinetuneConfig`.
        threads: As in `FinetuneConfig`.
    """

    name: str
    task: str | None = None
    model: str | None = None
    data_dir: str | None = None
    dev: str | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    corpus: tuple[str, ...] = ()
    held_out_tenth: bool = False
    head: str | None = None
    sequence_length: int | None = None
    blocks: int | None = None
    batch_size: int = 16
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: A value is out of range or unknown; the message names the option.
        """
        settle(self)
        if self.head is not None:
            one_of("head", self.head, HEADS)
        check_columns(self.text_columns, self.label_column)
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        length = self.sequence_length
        require("sequence-length", length is None or length >= 8, "at least 8", length)
        for option in ("blocks", "batch_size", "threads"):
            value = getattr(self, option)
            require(option.replace("_", "-"), value is None or value >= 1, "at least 1", value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return plain(self)
