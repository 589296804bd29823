"""What a fine-tuning is told; imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tamtctl.foundations.checks import one_of, positive, require
from tamtctl.foundations.config import DEVICES, PRECISIONS, plain
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.settings import settle
from tamtctl.pruning.objectives import objectives
from tamtctl.tasks.benchmarks.table import zero_shot_tasks
from tamtctl.tasks.finetuning.schedule import TASK_RECIPES, Wishes
from tamtctl.tasks.kinds.table import own_kinds
from tamtctl.tasks.labelled.columns import check_columns
from tamtctl.tasks.registry import TASKS, find_task

SELECTIONS = ("last", "best")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Everything that determines a fine-tuning run; None leaves the recipe's or the task's value.

    Attributes:
        task: A name in `tamtctl.tasks.registry.TASKS`, or with ``train`` any other of letters,
            digits, ``-``, ``_`` and ``.``, for it names a folder.
        ticket: Folder, packaged name or Hub id; None: the one at hand, see
            `tamtctl.tasks.finetuning.starting_point.with_default_ticket`.
        dense: Fine-tune the full model, without a ticket.
        keep_zeros: Without a ticket, keep the zeros that the model brings along, or train them like
            all others; None: keep them in a model that was pruned.
        model: ``nano``, a folder or a Hub id; by default what the ticket is for.
        data_dir: A folder of the task's files; by default the Hub.
        train: Labelled examples of a task of one's own: tsv, csv, jsonl or parquet.
        dev: The examples to score on; None: a part of ``train`` is held out, see
            `tamtctl.tasks.labelled.dev_split`.
        text_columns: One or two columns of ``train`` and ``dev``.
        label_column: Their column of the label.
        label_kind: A kind of task that labelled files can be of, such as ``classification`` or
            ``regression``; None: as the labels look.
        limit: Train on so many random examples; smaller sets are part of larger ones.
        recipe: ``auto``: rate, epochs and warm-up by the model's width and the examples, see
            `tamtctl.tasks.finetuning.schedule`; ``paper``: the paper's, which suit BERT-base.
        epochs: Passes over the training set.
        learning_rate: Peak rate; it falls linearly to 0.
        batch_size: Examples per optimiser step.
        max_length: Tokens per example.
        select: Report the ``last`` checkpoint, or the ``best`` of the epochs on the dev set.
        patience: Stop after so many epochs in a row without a better score on a part held out of
            the training set (with ``select="best"``, on the dev set), and report the best of them.
        find_learning_rate: Try a few rates on a part held out of the training set, and train with
            the best one, see `tamtctl.tasks.finetuning.rate_search`.
        seeds: Of the classifier, the order and dropout; one run each.
        precision: ``fp32``, ``bf16`` autocast, or ``auto`` (bf16 where it is fast).
        device: ``auto`` takes cuda, then mps, then cpu.
        threads: CPU threads; None leaves torch's choice.
        checkpoint_every: Steps between two checkpoints; None: five minutes.
    """

    task: str
    ticket: str | None = None
    dense: bool = False
    keep_zeros: bool | None = None
    model: str | None = None
    data_dir: str | None = None
    train: str | None = None
    dev: str | None = None
    text_columns: tuple[str, ...] = ("text",)
    label_column: str = "label"
    label_kind: str | None = None
    limit: int | None = None
    recipe: str = "auto"
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    select: str = "last"
    patience: int | None = None
    find_learning_rate: bool = False
    seeds: tuple[int, ...] = (1,)
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: A value is out of range or unknown; the message names the option.
        """
        settle(self)
        if not self.has_own_files:
            find_task(self.task)
        elif self.task in TASKS:
            raise UsageError(
                f"--train and --dev are for a task of your own, and {self.task} is none; "
                "give another name, or --data-dir with its files"
            )
        _require_own_files(self)
        for option in ("ticket", "model", "data_dir", "train", "dev"):
            require(option.replace("_", "-"), getattr(self, option) != "", "not empty", "")
        if self.dense and self.ticket:
            raise UsageError("--dense is without a --ticket; give the --model instead")
        _require_zeros_of_a_model(self)
        one_of("recipe", self.recipe, TASK_RECIPES)
        one_of("select", self.select, SELECTIONS)
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        if self.label_kind is not None:
            one_of("label-kind", self.label_kind, own_kinds())
        check_columns(self.text_columns, self.label_column)
        for option in (
            "limit", "epochs", "batch_size", "learning_rate", "threads", "checkpoint_every",
            "patience",
        ):  # fmt: skip
            positive(option, getattr(self, option))
        if self.find_learning_rate and self.learning_rate is not None:
            raise UsageError("--find-learning-rate finds the rate; leave out --learning-rate")
        length = self.max_length
        require("max-length", length is None or length >= 8, "at least 8", length)
        require("seeds", bool(self.seeds), "one or more numbers", self.seeds)
        require("seeds", len(set(self.seeds)) == len(self.seeds), "different", self.seeds)
        for seed in self.seeds:
            require("seeds", 0 <= seed < 2**32, "in [0, 2**32)", seed)

    @property
    def has_own_files(self) -> bool:
        """Whether the task is a user's own."""
        return bool(self.train or self.dev)

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the run as plain JSON values."""
        left_out = {"checkpoint_every"} | ({"recipe"} if self.recipe == "auto" else set())
        if self.keep_zeros is None:
            left_out.add("keep_zeros")
        return {key: value for key, value in plain(self).items() if key not in left_out}

    @property
    def stops_on_held_out(self) -> bool:
        """Whether a part of the training set says when to stop, and is not trained on."""
        return self.patience is not None and self.select != "best"

    @property
    def wishes(self) -> Wishes:
        """What is asked for of the training's rate and length."""
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
    """A task of one's own needs a file to train on, and a name that can be a folder's."""
    if not config.has_own_files:
        return
    if not re.fullmatch(r"[\w.-]{1,64}", config.task):
        raise UsageError(
            f"a task of your own cannot be called {config.task!r}: its name must be letters, "
            "digits, -, _ and ., at most 64 of them"
        )
    if config.task in (*objectives(), *zero_shot_tasks()):
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
