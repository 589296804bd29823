"""The settings of fine-tuning, each declared once; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import (
    at_least,
    different,
    each,
    given,
    positive,
    require,
    seed_number,
)
from tamtctl.foundations.config import (
    DATA,
    METHOD,
    RUN,
    TRAINING,
    Config,
    Typed,
    configuration,
    setting,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.tasks.benchmarks.table import all_without_training
from tamtctl.tasks.finetuning.schedule import TASK_RECIPES, Wishes
from tamtctl.tasks.kinds.table import own_kinds
from tamtctl.tasks.registry import TASKS, find_task
from tamtctl.tasks.task import check_columns
from tamtctl.ticket.local_names import ticket_names
from tamtctl.training.loggers.setting import log_to

SELECTIONS = ("last", "best")


def _check_seeds(option: str, seeds: Sequence[int]) -> None:
    given("one or more numbers")(option, seeds)
    different(option, seeds)
    each(seed_number)(option, seeds)


@configuration
class FinetuneConfig(Config):
    """Everything that determines a fine-tuning run; None leaves a value to the recipe or the task.

    Example:
        >>> tuning = tamtctl.FinetuneConfig(
        ...     task="topics", train="my-labels.tsv", ticket=result.ticket, epochs=2
        ... )
        >>> tuning.seeds, tuning.text_columns
        ((1,), ('text',))
    """

    task: str = setting(
        help="A task: {choices}. With --train, a name for your own.\n\nThat is, {summaries}.",
        more="It names a folder: letters, digits, ``-``, ``_`` and ``.``.",
        panel=DATA,
        is_common=True,
        choices=TASKS,
        is_open=True,
        typed=Typed(is_argument=True, may_be_missing=True),
    )
    ticket: str | None = setting(
        default=None,
        help="Folder, packaged name or Hub id; by default the newest under runs/, else the "
        "packaged one at sparsity 0.7.",
        panel=METHOD,
        proposed=ticket_names,
        is_common=True,
        check=given("not empty"),
    )
    dense: bool = setting(
        default=False, help="The full model, no ticket.", panel=METHOD, is_common=True
    )
    keep_zeros: bool | None = setting(
        default=None,
        help="Without a ticket: keep the zeros that the model brings along, or train them like "
        "all others; by default those of a pruned model are kept.",
        panel=METHOD,
        typed=Typed(can_be_denied=True),
        before=None,
    )
    model: str | None = setting(
        default=None,
        help="Hub id, folder, or nano; by default the ticket's.",
        panel=METHOD,
        is_common=True,
        check=given("not empty"),
    )
    data_dir: str | None = shared.data_dir(check=given("not empty"))
    train: str | None = setting(
        default=None,
        help="Labelled examples of your own task: tsv, csv, jsonl or parquet; of tagged words, "
        "jsonl, or CoNLL's columns (.conll, .txt).",
        panel=DATA,
        is_common=True,
        check=given("not empty"),
    )
    dev: str | None = setting(
        default=None,
        help="Labelled examples to measure on; by default a held-out fifth of --train.\n\nThat "
        "fifth is always the same, at most 5,000 examples, with the same share of every class; "
        "duplicates stay together.",
        panel=DATA,
        is_common=True,
        check=given("not empty"),
    )
    text_columns: Sequence[str] = setting(
        default=("text",),
        help="Column of the text; give it twice for pairs.",
        panel=DATA,
        is_common=True,
        typed=Typed(name="text-column"),
    )
    label_column: str = setting(
        default="label", help="Column of the label.", panel=DATA, is_common=True
    )
    label_kind: str | None = setting(
        default=None,
        help="What the labels are: {summaries}; by default guessed from them.",
        panel=DATA,
        choices=own_kinds,
    )
    limit: int | None = setting(
        default=None,
        help="Train on only this many examples.\n\nSmaller sets are part of larger ones.",
        panel=DATA,
        is_common=True,
        check=positive,
    )
    recipe: str = setting(
        default="auto",
        help="What sets rate, epochs and warm-up: auto (the model's width and the number of "
        "examples) or paper (for BERT-base).",
        panel=TRAINING,
        choices=TASK_RECIPES,
        before="auto",
    )
    epochs: int | None = setting(
        default=None,
        help="Passes over the examples; by default set by --recipe.",
        panel=TRAINING,
        is_common=True,
        check=positive,
    )
    learning_rate: float | None = setting(
        default=None,
        help="Peak rate; by default set by --recipe.\n\nIt rises over the first tenth of the "
        "steps (not with --recipe paper), then falls linearly to 0.",
        panel=TRAINING,
        is_common=True,
        check=positive,
    )
    batch_size: int | None = setting(
        default=None,
        help="Examples per optimiser step; by default the task's.",
        panel=TRAINING,
        check=positive,
    )
    max_length: int | None = setting(
        default=None,
        help="Tokens per example; the rest is cut. By default the task's, or as many as the model "
        "and its tokenizer are made for.",
        panel=DATA,
        check=at_least(8),
    )
    select: str = setting(
        default="last",
        help="Checkpoint to report: {choices}. The best epoch is selected on the dev set itself, "
        "and its metrics say so.",
        panel=TRAINING,
        choices=SELECTIONS,
    )
    patience: int | None = setting(
        default=None,
        help="Stop after this many epochs in a row without a better metric on a fifth of the "
        "training set that is held out for it, and report the best epoch; with --select best, on "
        "the dev set.",
        panel=TRAINING,
        check=positive,
    )
    find_learning_rate: bool = setting(
        default=False,
        help="Find the rate first, on a held-out fifth of the training set.\n\nA tenth, a third, "
        "one, three and ten times the usual rate are tried, each for a fifth of the steps (at "
        "least 1,000).",
        panel=TRAINING,
        is_common=True,
    )
    seeds: Sequence[int] = setting(
        default=(1,),
        help="Seeds, one run each, for example 1,2,3.\n\nA seed decides the new head, the order "
        "of examples and dropout.",
        panel=RUN,
        is_common=True,
        check=_check_seeds,
        typed=Typed(between_commas=True),
    )
    precision: str = shared.precision()
    device: str = shared.device()
    threads: int | None = shared.threads()
    checkpoint_every: int | None = shared.checkpoint_every(positive)
    log_to: str | None = log_to()

    def _check_together(self) -> None:
        if not self.has_own_files:
            find_task(self.task)
        elif self.task in TASKS:
            raise UsageError(
                f"--train and --dev are for a task of your own, and {self.task} is none; "
                "give another name, or --data-dir with its files"
            )
        _require_own_files(self)
        if self.dense and self.ticket:
            raise UsageError("--dense is without a --ticket; give the --model instead")
        _require_zeros_of_a_model(self)
        check_columns(self.text_columns, self.label_column)
        if self.find_learning_rate and self.learning_rate is not None:
            raise UsageError("--find-learning-rate finds the rate; leave out --learning-rate")

    @property
    def has_own_files(self) -> bool:
        """Whether the task is one of a user's own labelled files."""
        return bool(self.train or self.dev)

    @property
    def stops_on_held_out(self) -> bool:
        """Whether patience looks at a held-out part of the training set."""
        return self.patience is not None and self.select != "best"

    @property
    def wishes(self) -> Wishes:
        """The values that were asked for of rate, epochs and batch size."""
        return Wishes(
            recipe=self.recipe,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
            limit=self.limit,
        )


def _require_zeros_of_a_model(config: FinetuneConfig) -> None:
    option = "--keep-zeros" if config.keep_zeros else "--no-keep-zeros"
    if config.keep_zeros is not None and config.ticket:
        raise UsageError(f"a --ticket keeps its own zeros and no others; leave {option} out")
    if config.keep_zeros is not None and not config.model:
        raise UsageError(f"{option} is about the zeros of a model; give the --model")


def _require_own_files(config: FinetuneConfig) -> None:
    """Check that a task of one's own has a training file and a name that can name a folder.

    Raises:
        UsageError: It lacks either.
    """
    if not config.has_own_files:
        return
    if not re.fullmatch(r"[\w.-]{1,64}", config.task):
        raise UsageError(
            f"a task of your own cannot be called {config.task!r}: its name must be letters, "
            "digits, -, _ and ., at most 64 of them"
        )
    if config.task in all_without_training():
        raise UsageError(
            f"a task of your own cannot be called {config.task!r}, which is a measure of evaluate; "
            "give another name"
        )
    if config.train is None:
        raise UsageError("--train is needed, too: --dev is what a task of your own is scored on")
    if config.data_dir:
        raise UsageError("--data-dir is for a known task; with --train and --dev leave it out")
    columns = config.text_columns
    require("text-column", 1 <= len(columns) <= 2, "given once, or twice for pairs", columns)
