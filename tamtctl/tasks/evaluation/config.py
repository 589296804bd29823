"""The settings of an evaluation, each declared once; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from tamtctl.data.units import BLOCKS, SENTENCES, rows_setting
from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import at_least
from tamtctl.foundations.config import DATA, METHOD, RUN, Config, Typed, configuration, setting
from tamtctl.tasks.benchmarks.table import all_without_training
from tamtctl.tasks.registry import TASKS
from tamtctl.tasks.task import check_columns
from tamtctl.ticket.local_names import ticket_names

HEAD_SOURCES = ("pretrained", "ticket")


@configuration
class EvaluateConfig(Config):
    """What to measure of a ticket, a model or a fine-tuned checkpoint, and on what.

    Example:
        >>> asked = tamtctl.EvaluateConfig(name="my-model", task="mlm", corpus="my-text.txt")
        >>> asked.corpus, asked.batch_size
        (('my-text.txt',), 16)
    """

    name: str = setting(
        help="A ticket, a model or a fine-tuned checkpoint: folder, name or Hub id.",
        panel=METHOD,
        proposed=ticket_names,
        is_common=True,
        typed=Typed(is_argument=True),
    )
    task: str | None = setting(
        default=None,
        help="What to measure, one of {choices}. By default what a checkpoint was fine-tuned on, "
        "else what a ticket was trained for, else mlm.\n\nIt is a loss on held-out text, or a sum "
        "such as mlm+kd; sentence embeddings without fine-tuning; retrieval of passages for your "
        "own queries; or the task of a checkpoint.",
        panel=METHOD,
        is_common=True,
        choices=lambda: (*all_without_training(), *TASKS),
        is_open=True,
    )
    model: str | None = setting(
        default=None,
        help="For a ticket: where its base model is now, if it has moved. For --task kd on a plain "
        "encoder: the dense model to measure the distance to.",
        panel=METHOD,
        is_common=True,
    )
    data_dir: str | None = shared.data_dir()
    dev: str | None = setting(
        default=None,
        help="Another labelled file to measure on, for a task of your own.",
        panel=DATA,
        is_common=True,
    )
    text_columns: Sequence[str] = setting(
        default=(),
        help="Column of the text in a corpus, in --dev or in text to label; give it twice for "
        "pairs. By default the task's.",
        panel=DATA,
        is_common=True,
        typed=Typed(name="text-column"),
    )
    label_column: str | None = setting(
        default=None,
        help="Column of the label in --dev; by default as in fine-tuning.",
        panel=DATA,
    )
    queries: str | None = setting(
        default=None,
        help="For --task retrieval: JSON lines with `_id` and `text`, and a `group` where queries "
        "belong together.",
        panel=DATA,
    )
    passages: str | None = setting(
        default=None,
        help="For --task retrieval: JSON lines with `_id` and `text`, and a `title` if they have "
        "one.",
        panel=DATA,
    )
    relevant: str | None = setting(
        default=None,
        help="For --task retrieval: which passages answer which query, a .tsv with the columns "
        "`query-id`, `corpus-id` and `score`, as BEIR has it.",
        panel=DATA,
    )
    corpus: Sequence[str] = setting(
        default=(),
        help="Text for a loss, named as in search. All of it is measured on, except what the mask "
        "or weights were trained on. By default the held-out tenth of python-docs.",
        panel=DATA,
        is_common=True,
    )
    rows: str | None = rows_setting(
        f"as the ticket was trained, else {SENTENCES} for a model of sentence-transformers, else "
        f"{BLOCKS}"
    )
    held_out_tenth: bool = setting(
        default=False,
        help="Measure only on the tenth of --corpus that a search holds out.",
        panel=DATA,
        is_common=True,
    )
    head: str | None = setting(
        default=None,
        help="The masked-LM head: the pretrained one, as by default, or the ticket's own. One of "
        "{choices}.",
        panel=METHOD,
        choices=HEAD_SOURCES,
    )
    sequence_length: int | None = setting(
        default=None,
        help="Tokens per sequence of text, at most; by default what the ticket was trained on.",
        panel=DATA,
        check=at_least(8),
    )
    blocks: int | None = setting(
        default=None,
        help="Sequences of text at most, spread over it; by default 512.",
        panel=DATA,
        check=at_least(1),
    )
    batch_size: int = setting(
        default=16, help="Examples or sequences at once.", panel=RUN, check=at_least(1)
    )
    precision: str = shared.precision()
    device: str = shared.device()
    threads: int | None = shared.threads(at_least(1))

    def _check_together(self) -> None:
        check_columns(self.text_columns, self.label_column)
