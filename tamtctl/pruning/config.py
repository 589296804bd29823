"""What a search is told: one frozen dataclass, checked on creation, and the named recipes.

Imports nothing heavy, so that the command line can check a request before it loads torch.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.settings import settle, settled, settled_changes
from tamtctl.tasks.finetuning.schedule import TASK_RECIPES, Wishes
from tamtctl.tasks.registry import STSB_ZERO_SHOT, TASKS, find_task

METHODS = ("tamt", "imp", "magnitude", "random")
REWINDS = ("weights", "none")
OBJECTIVES = ("mlm", "kd", "mlm+kd")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
CLIPPING = ("global", "per-tensor")
SELECTIONS = ("last", "best")
LOGS = ("tensorboard",)
LABEL_KINDS = ("classification", "regression")
HEADS = ("pretrained", "ticket")
MOST_STEPS = 10**8  # of a training: years; what is above is a slip of the keyboard

# Fields that do not change what a search finds, unless ``patience`` stops it.
_WATCHING = ("checkpoint_every", "eval_every", "patience", "log_to", "keep_scores")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Everything that determines a search; two equal configurations find the same ticket.

    Attributes:
        sparsity: Share of zeros in every masked matrix, in [0, 1).
        model: ``nano``, a folder, or a Hub id.
        corpus: What to train on: ``python-docs``, files, folders, or Hub datasets ``id[:config]``.
        stream: Read the corpus, one Hub dataset, while training on it, in an order that depends on
            the number of processes; only its first held-out documents are kept on the disk.
        held_out: Text to evaluate on; by default a stable tenth of ``corpus``.
        check_corpus: Text of a second domain to evaluate on besides.
        text_column: Column of the text in jsonl, parquet and datasets.
        method: ``tamt`` trains the mask; ``imp`` is iterative magnitude pruning; ``magnitude`` and
            ``random`` are the one-shot baselines.
        objective: ``mlm``, ``kd`` or ``mlm+kd`` (TAMT, §3.2).
        init: Initial mask: ``magnitude``, ``random``, or a ticket.
        steps: Optimiser steps; those of ``imp`` follow from ``prune_every``, see `imp_steps`.
        prune_every: ``imp``: steps between two cuts of 10 % of the weights.
        rewind: ``imp``: after a cut go back to the pre-trained ``weights``, or train on (``none``).
        schedule_epochs: The learning rate falls linearly to 0 over this many passes of the corpus
            (the run is cut at ``steps``); None: over ``steps``, or ``prune_every`` of ``imp``.
        batch_size: Sequences per optimiser step.
        micro_batch_size: Sequences per forward pass (gradient accumulation); None: the whole batch.
        sequence_length: Tokens per sequence, special tokens included.
        learning_rate: Peak rate of scores and head, or of the weights that ``imp`` trains. Kept and
            pruned scores start ``0.02`` apart.
        weight_decay: Decoupled, on scores and head.
        adam_epsilon: Added outside the bias correction, as in the paper's AdamW.
        bias_correction: Of Adam's moments.
        clip: ``global`` norm over scores and head, or ``per-tensor``.
        max_grad_norm: The norm to clip to.
        dropout: Leave the student's dropout on.
        evaluation_blocks: Held-out sequences to evaluate on at most.
        precision: ``fp32``, ``bf16`` autocast, or ``auto`` (bf16 where it is fast).
        compile: Compile the encoder with ``torch.compile``: minutes at first, then faster steps.
        low_memory: Keep the frozen weights in a file instead of in memory and Adam's first moments
            in bfloat16, on a CPU.
        device: ``auto`` takes cuda, then mps, then cpu.
        threads: CPU threads; None leaves torch's choice.
        seed: Of noise, order, random masks and dropout.
        max_minutes: Stop training after so long.
        checkpoint_every: Steps between two checkpoints; None: five minutes.
        eval_every: Steps between two evaluations of the mask on held-out text; None: only at the
            end.
        eval_steps: Evaluate the mask on held-out text after just these steps, too.
        patience: Stop after so many evaluations in a row without a lower loss. The ticket is that
            of the last step, not of the best evaluation: choosing it by the very losses that are
            reported would flatter it.
        keep_scores: Keep the trained scores in the run's folder.
        from_scores: A run that kept its scores: derive the ticket from them, without training.
        log_to: ``tensorboard``, besides ``metrics.jsonl``.
        base_model: Hub id ``org/name[@revision]`` of the model that the folder ``model`` holds, for
            the record.
    """

    sparsity: float
    model: str
    corpus: tuple[str, ...]
    stream: bool = False
    held_out: tuple[str, ...] = ()
    check_corpus: tuple[str, ...] = ()
    text_column: str | None = None
    method: str = "tamt"
    objective: str = "mlm"
    init: str = "magnitude"
    steps: int
    prune_every: int | None = None
    rewind: str = "weights"
    schedule_epochs: float | None = None
    batch_size: int = 16
    micro_batch_size: int | None = None
    sequence_length: int
    learning_rate: float
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    bias_correction: bool = True
    clip: str = "global"
    max_grad_norm: float = 1.0
    dropout: bool = True
    evaluation_blocks: int = 512
    precision: str = "auto"
    compile: bool = False
    low_memory: bool = False
    device: str = "auto"
    threads: int | None = None
    seed: int = 1
    max_minutes: float | None = None
    checkpoint_every: int | None = None
    eval_every: int | None = None
    patience: int | None = None
    log_to: str | None = None
    keep_scores: bool | None = None
    from_scores: str | None = None
    base_model: str | None = None
    eval_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: A value is out of range or unknown; the message names the option.
        """
        settle(self)
        check_sparsity(self.sparsity)
        one_of("method", self.method, METHODS)
        one_of("objective", self.objective, OBJECTIVES)
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("clip", self.clip, CLIPPING)
        _require("corpus", bool(self.corpus), "at least one source", self.corpus)
        self._check_pruning()
        _require("batch-size", self.batch_size >= 1, "at least 1", self.batch_size)
        _require("sequence-length", self.sequence_length >= 8, "at least 8", self.sequence_length)
        _require("seed", 0 <= self.seed < 2**32, "in [0, 2**32)", self.seed)
        _require("evaluation-blocks", self.evaluation_blocks >= 1, ">= 1", self.evaluation_blocks)
        for option in ("learning_rate", "adam_epsilon", "max_grad_norm"):
            positive(option, getattr(self, option))
        for option in ("micro_batch_size", "threads", "schedule_epochs", "max_minutes"):
            positive(option, getattr(self, option))
        self._check_watching()
        self._check_stream()
        if self.method != "tamt" and (self.compile or self.low_memory):
            raise UsageError("--compile and --low-memory are for --method tamt")
        decay = self.weight_decay
        _require("weight-decay", math.isfinite(decay) and decay >= 0, "at least 0", decay)

    def _check_pruning(self) -> None:
        one_of("rewind", self.rewind, REWINDS)
        if self.method != "imp":
            within = 1 <= self.steps <= MOST_STEPS
            _require("steps", within, f"at least 1 and at most {MOST_STEPS:,}", self.steps)
            if self.prune_every is not None or self.rewind != "weights":
                raise UsageError("--prune-every and --rewind are for --method imp")
            return
        if self.objective != "mlm":
            raise UsageError(f"--method imp trains on mlm, not on --objective {self.objective}")
        if self.init != "magnitude":
            raise UsageError(f"--method imp starts from the full model, not --init {self.init}")
        if self.max_minutes is not None:
            raise UsageError(
                "--max-minutes would stop imp before its last cut; give a smaller --prune-every"
            )
        every = self.prune_every
        _require("prune-every", every is not None and every >= 1, "at least 1", every)
        wanted = imp_steps(self.sparsity, every or 0)
        _require("steps", self.steps == wanted, f"{wanted} for this --prune-every", self.steps)

    def _check_stream(self) -> None:
        if not self.stream:
            return
        if len(self.corpus) > 1 or not self.is_trained:
            raise UsageError("--stream is for training on one --corpus, a Hub dataset")
        if self.schedule_epochs is not None:
            raise UsageError(
                "--stream does not know how long the corpus is: schedule_epochs is not for it"
            )

    def _check_watching(self) -> None:
        for field_name in _WATCHING:
            value = getattr(self, field_name)
            if value is None:
                continue
            option = field_name.replace("_", "-")
            if self.method == "imp" and field_name in ("eval_every", "patience"):
                raise UsageError(
                    f"--{option} is for --method tamt: what imp trains, it gives up at the next cut"
                )
            if not self.is_trained:
                raise UsageError(f"--{option} is for methods that train, not for {self.method}")
            if field_name == "keep_scores":
                if self.method == "imp":
                    raise UsageError("--keep-scores is for --method tamt: imp trains no scores")
            elif field_name == "log_to":
                one_of(option, value, LOGS)
            else:
                _require(option, value >= 1, "at least 1", value)
        if self.eval_steps and (self.method != "tamt" or not self.is_trained):
            raise UsageError("eval-steps are for --method tamt")
        if self.eval_steps and self.patience:
            raise UsageError("--patience counts evaluations at equal distances, not eval-steps")
        _require("eval-steps", min(self.eval_steps, default=1) >= 1, "at least 1", self.eval_steps)
        if self.patience and not self.eval_every:
            raise UsageError("--patience counts evaluations: give --eval-every, too")

    @property
    def is_trained(self) -> bool:
        """Whether it takes training, and is neither one-shot nor derived from a search."""
        return self.method in ("tamt", "imp") and self.from_scores is None

    @property
    def has_mlm(self) -> bool:
        """Whether the objective needs the pre-trained masked-LM head."""
        return "mlm" in self.objective

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the ticket as plain JSON values, for ``ticket.json`` and the run.

        How a search is watched is left out: it is still the same search.
        """
        left_out = {"checkpoint_every", "log_to", "keep_scores", "eval_steps"}
        if self.patience is None:
            left_out.update(_WATCHING)
        left_out.update(
            option for option in ("from_scores", "base_model") if getattr(self, option) is None
        )
        left_out.update(option for option in ("compile", "low_memory") if not getattr(self, option))
        return {key: value for key, value in _plain(self).items() if key not in left_out}

    @property
    def hash(self) -> str:
        """Eight hex digits that name this configuration's run folder."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @classmethod
    def from_recipe(cls, recipe: str | Path | Recipe, **changes: Any) -> Self:
        """Return a recipe's configuration with some values changed; None leaves the recipe's.

        Args:
            recipe: A name in `RECIPES`, or a recipe file or its name, see `Recipe`.
            **changes: `SearchConfig` values; ``sparsity`` is needed.

        Raises:
            UsageError: No such recipe, a file that is not TOML, or a value that is refused.
        """
        changes = {key: value for key, value in changes.items() if value is not None}
        changes = settled_changes(cls, changes)
        recipe = recipe if isinstance(recipe, Recipe) else settled("recipe", "str", recipe)
        file: Recipe | None = None
        if isinstance(recipe, Recipe) or recipe not in RECIPES:
            file = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
            recipe = file.base
            merged = file.values | changes
            changes = file.values | file.by_method.get(merged.get("method", "tamt"), {}) | changes
        if "sparsity" not in changes:
            raise UsageError("--sparsity is needed, for example --sparsity 0.8")
        check_sparsity(changes["sparsity"])
        method = changes.setdefault("method", "tamt")
        one_of("method", method, METHODS)
        objective = changes.setdefault("objective", "mlm")
        one_of("objective", objective, OBJECTIVES)
        values = RECIPES[recipe](method, objective, changes["sparsity"]) | changes
        if method == "imp":
            if "steps" in changes:
                where = (
                    ""
                    if file is None or "steps" not in file.values
                    else (f"; in recipe file {file.name!r}, put steps into a table [tamt]")
                )
                raise UsageError(f"--steps is not for --method imp; give its --prune-every{where}")
            every = values["prune_every"]
            _require("prune-every", every >= 1, "at least 1", every)
            values["steps"] = imp_steps(values["sparsity"], every)
        if values.get("stream") and "schedule_epochs" not in changes:
            values["schedule_epochs"] = None  # the length of an epoch is not known
        return cls(**values)


def derived_config(run: Path | str, sparsity: float, **changes: Any) -> SearchConfig:
    """Return the configuration of a ticket derived from the scores of a search.

    Args:
        run: The folder of the search, which kept its scores.
        sparsity: Of the derived ticket.
        **changes: Where to compute; None leaves what the search had.

    Raises:
        UsageError: There is no run of a search by mask training.
    """
    run = str(settled("from_scores", "str", run))
    sparsity = settled("sparsity", "float", sparsity)
    try:
        values = json.loads((expanded(run) / "config.json").read_text(encoding="utf-8"))
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        config = SearchConfig(**values)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"--from-scores {run!r} is not the folder of a search; give one made with --keep-scores"
        ) from error
    if config.method != "tamt" or not config.is_trained:
        raise UsageError(f"--from-scores {run!r} is not the run of a mask training")
    asked = {key: value for key, value in changes.items() if value is not None}
    return replace(
        config,
        sparsity=sparsity,
        from_scores=run,
        eval_every=None,
        eval_steps=(),
        patience=None,
        **asked,
    )


def _require_different_columns(texts: Sequence[str], label: str | None) -> None:
    for number, column in enumerate(texts):
        if column in texts[:number]:
            raise UsageError(f"--text-column {column} is given twice; give each column once")
        if column == label:
            raise UsageError(f"column {column!r} cannot be both the text and the label")


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
        label_kind: ``classification`` or ``regression``; None: as the labels look.
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
            _require(option.replace("_", "-"), getattr(self, option) != "", "not empty", "")
        if self.dense and self.ticket:
            raise UsageError("--dense is without a --ticket; give the --model instead")
        _require_zeros_of_a_model(self)
        one_of("recipe", self.recipe, TASK_RECIPES)
        one_of("select", self.select, SELECTIONS)
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        if self.label_kind is not None:
            one_of("label-kind", self.label_kind, LABEL_KINDS)
        _require_different_columns(self.text_columns, self.label_column)
        for option in (
            "limit", "epochs", "batch_size", "learning_rate", "threads", "checkpoint_every",
            "patience",
        ):  # fmt: skip
            positive(option, getattr(self, option))
        if self.find_learning_rate and self.learning_rate is not None:
            raise UsageError("--find-learning-rate finds the rate; leave out --learning-rate")
        length = self.max_length
        _require("max-length", length is None or length >= 8, "at least 8", length)
        _require("seeds", bool(self.seeds), "one or more numbers", self.seeds)
        _require("seeds", len(set(self.seeds)) == len(self.seeds), "different", self.seeds)
        for seed in self.seeds:
            _require("seeds", 0 <= seed < 2**32, "in [0, 2**32)", seed)

    @property
    def has_own_files(self) -> bool:
        """Whether the task is a user's own."""
        return bool(self.train or self.dev)

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the run as plain JSON values."""
        left_out = {"checkpoint_every"} | ({"recipe"} if self.recipe == "auto" else set())
        if self.keep_zeros is None:
            left_out.add("keep_zeros")
        return {key: value for key, value in _plain(self).items() if key not in left_out}

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
        _require_different_columns(self.text_columns, self.label_column)
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        length = self.sequence_length
        _require("sequence-length", length is None or length >= 8, "at least 8", length)
        for option in ("blocks", "batch_size", "threads"):
            value = getattr(self, option)
            _require(option.replace("_", "-"), value is None or value >= 1, "at least 1", value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return _plain(self)


def _plain(config: SearchConfig | FinetuneConfig | EvaluateConfig) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()}


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
    if config.task in (*OBJECTIVES, STSB_ZERO_SHOT):
        raise UsageError(
            f"a task of your own cannot be called {config.task!r}, which is a measure of evaluate; "
            "give another name"
        )
    if config.train is None:
        raise UsageError("--train is needed, too: --dev is what a task of your own is scored on")
    if config.data_dir:
        raise UsageError("--data-dir is for a known task; with --train and --dev leave it out")
    columns = config.text_columns
    _require("text-column", 1 <= len(columns) <= 2, "given once, or twice for pairs", columns)


def check_sparsity(value: float) -> None:
    """Raise UsageError unless ``value`` is a sparsity: a share of zeros in [0, 1)."""
    if not (isinstance(value, float | int) and 0 <= value < 1):  # NaN compares false
        hint = f"; did you mean {value / 100:g}?" if 1 < value < 100 else ""
        raise UsageError(f"--sparsity must be at least 0 and below 1, got {value:g}{hint}")


def cut_sparsities(sparsity: float) -> tuple[float, ...]:
    """Return the sparsity after each cut of iterative magnitude pruning: 0.1, 0.2, … ``sparsity``.

    Every cut takes a tenth of the original weights; the last one takes what is left to take.
    """
    tenths = (count / 10 for count in range(1, 10))
    return (*(tenth for tenth in tenths if tenth < sparsity), sparsity)


def imp_steps(sparsity: float, prune_every: int) -> int:
    """Return the steps that iterative magnitude pruning needs: the first cut precedes training."""
    return (len(cut_sparsities(sparsity)) - 1) * prune_every


def one_of(option: str, value: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    """Raise UsageError, suggesting the nearest, unless ``value`` is one of the ``known`` names."""
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--{option} must be one of {', '.join(known)}, got {value!r}{hint}")


def positive(field_name: str, value: float | None) -> None:
    """Raise UsageError, naming the option, unless ``value`` is a number above 0, or None."""
    is_finite = value is None or math.isfinite(value)
    wanted = "greater than 0" if is_finite else "a finite number greater than 0"
    good = value is None or (is_finite and value > 0)
    _require(field_name.replace("_", "-"), good, wanted, value)


def _require(option: str, condition: bool, wanted: str, value: object) -> None:
    if not condition:
        raise UsageError(f"--{option} must be {wanted}, got {value!r}")


def _nano(method: str, objective: str, sparsity: float) -> dict[str, Any]:
    """The embedded model on the embedded text: about a minute on two cores.

    Iterative pruning has the rate that suits it best: of eight from 5e-5 to 1.6e-2, with a cut
    every 30 steps, its ticket at 0.7 had the lowest held-out loss with 8e-3 (5.49; 6.48 with the
    5e-5 of the paper, whose intervals are a hundred times as long).

    The denser the mask, the better is the magnitude mask that it starts from: fewer weights must
    change sides. With a rate that suits 0.8, a search at 0.5 flips needlessly many, and what they
    gain on its own text they lose on any other.
    """
    settings = {
        "model": "nano",
        "corpus": ("python-docs",),
        "steps": 240,
        "batch_size": 16,
        "sequence_length": 128,
        "learning_rate": 1e-3 * max(sparsity, 0.1) ** 2,
        "dropout": False,
    }
    if method == "imp":  # 320 steps to sparsity 0.9
        settings |= {"prune_every": 40, "learning_rate": 8e-3}
    return settings


def _paper(method: str, objective: str, sparsity: float) -> dict[str, Any]:
    """BERT-base on WikiText-103 with the hyperparameters of TAMT's code (appendix A)."""
    settings = {
        "model": "bert-base-uncased",
        "corpus": ("Salesforce/wikitext:wikitext-103-raw-v1",),
        "steps": _paper_steps(sparsity),
        "schedule_epochs": 2.0,
        "batch_size": 16,
        "sequence_length": 512,
        "learning_rate": 5e-5,
    }
    if method == "imp":
        settings |= {"prune_every": 2792, "schedule_epochs": None}
    if objective == "kd":
        settings |= {
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "adam_epsilon": 1e-6,
            "bias_correction": False,
            "clip": "per-tensor",
        }
    return settings


def _paper_steps(sparsity: float) -> int:
    """The checkpoint the paper fine-tunes, interpolated between the sparsities it lists."""
    listed = {0.2: 3, 0.3: 6, 0.4: 8, 0.5: 11, 0.6: 14, 0.7: 17, 0.8: 20, 0.9: 22}  # thousands
    points = sorted(listed.items())
    if sparsity <= points[0][0]:
        return points[0][1] * 1000
    for (low, steps_low), (high, steps_high) in itertools.pairwise(points):
        if sparsity <= high:
            share = (sparsity - low) / (high - low)
            return round(1000 * (steps_low + share * (steps_high - steps_low)))
    return points[-1][1] * 1000


RECIPES: dict[str, Callable[[str, str, float], dict[str, Any]]] = {"nano": _nano, "paper": _paper}


_Values = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A TOML file of `SearchConfig` values, as it was when it was read.

    Attributes:
        name: The file, as the user called it.
        base: The recipe it builds on, which it may name as ``recipe``.
        values: Its values.
        by_method: Method → the values in its table, such as ``[imp]``.
    """

    name: str
    base: str
    values: _Values
    by_method: dict[str, _Values]

    @classmethod
    def read(cls, name: str) -> Self:
        """Read a recipe file.

        Raises:
            UsageError: There is none, it is not TOML, or a value is refused.
        """
        path = expanded(name)
        if not path.is_file():
            one_of("recipe", name, RECIPES | {"FILE.toml": None})
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
            raise UsageError(f"recipe file {name!r} is not readable TOML: {error}") from error
        base = values.pop("recipe", "nano")
        one_of("recipe", base, RECIPES)
        tables = {method: values.pop(method) for method in METHODS if method in values}
        by_method = {method: _checked_values(name, table) for method, table in tables.items()}
        for method, table in by_method.items():
            if table.get("method", method) != method:
                raise UsageError(f"recipe file {name!r}: [{method}] cannot be for another method")
        for key in ("prune_every", "rewind"):
            if key in values and values.get("method") != "imp":
                raise UsageError(
                    f"recipe file {name!r}: {key} is for one method; put it into a table [imp]"
                )
        return cls(name, base, _checked_values(name, values), by_method)

    def __str__(self) -> str:
        return self.name


def _checked_values(file: str, values: object) -> _Values:
    if not isinstance(values, dict):
        raise UsageError(f"recipe file {file!r}: the name of a method is for a table, like [imp]")
    types = {field.name: str(field.type) for field in fields(SearchConfig)}
    checked = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"recipe file {file!r} has an unknown key {name!r}{hint}")
        if name in checked:
            raise UsageError(f"recipe file {file!r} has {name} twice; say it once")
        checked[name] = _checked(file, name, value, types[name])
    return checked


def _checked(file: str, key: str, value: Any, declared: str) -> Any:
    """Return a TOML value as the field's type, or say which type it should have had."""
    if declared == "tuple[int, ...]":
        value = (value,) if type(value) is int else value
        if isinstance(value, list | tuple) and all(type(item) is int for item in value):
            return tuple(value)
    elif declared.startswith("tuple"):
        value = (value,) if isinstance(value, str) else value
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif declared.startswith("float") and type(value) in (int, float):
        return float(value)
    elif type(value).__name__ == declared.removesuffix(" | None"):
        return value
    raise UsageError(f"recipe file {file!r}: {key} must be {declared}, got {value!r}")
