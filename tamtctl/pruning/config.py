"""What a search is told: one frozen dataclass, checked on creation.

Imports nothing heavy, so that the command line can check a request before it loads torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tamtctl.foundations.checks import one_of, positive, require
from tamtctl.foundations.config import DEVICES, PRECISIONS, plain
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.settings import settle, settled, settled_changes
from tamtctl.pruning.methods import METHODS
from tamtctl.pruning.objectives import Terms, objectives, terms_of
from tamtctl.pruning.recipes import RECIPES, Recipe

REWINDS = ("weights", "none")
CLIPPING = ("global", "per-tensor")
LOGS = ("tensorboard",)
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
        objective: A term of `tamtctl.pruning.objectives`, such as ``mlm`` or ``kd``, or a sum of
            several such as ``mlm+kd`` (TAMT, §3.2).
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
        one_of("objective", self.objective, objectives())
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("clip", self.clip, CLIPPING)
        require("corpus", bool(self.corpus), "at least one source", self.corpus)
        self._check_pruning()
        require("batch-size", self.batch_size >= 1, "at least 1", self.batch_size)
        require("sequence-length", self.sequence_length >= 8, "at least 8", self.sequence_length)
        require("seed", 0 <= self.seed < 2**32, "in [0, 2**32)", self.seed)
        require("evaluation-blocks", self.evaluation_blocks >= 1, ">= 1", self.evaluation_blocks)
        for option in ("learning_rate", "adam_epsilon", "max_grad_norm"):
            positive(option, getattr(self, option))
        for option in ("micro_batch_size", "threads", "schedule_epochs", "max_minutes"):
            positive(option, getattr(self, option))
        self._check_watching()
        self._check_stream()
        if self.method != "tamt" and (self.compile or self.low_memory):
            raise UsageError("--compile and --low-memory are for --method tamt")
        decay = self.weight_decay
        require("weight-decay", math.isfinite(decay) and decay >= 0, "at least 0", decay)

    def _check_pruning(self) -> None:
        one_of("rewind", self.rewind, REWINDS)
        if self.method != "imp":
            within = 1 <= self.steps <= MOST_STEPS
            require("steps", within, f"at least 1 and at most {MOST_STEPS:,}", self.steps)
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
        require("prune-every", every is not None and every >= 1, "at least 1", every)
        wanted = imp_steps(self.sparsity, every or 0)
        require("steps", self.steps == wanted, f"{wanted} for this --prune-every", self.steps)

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
                require(option, value >= 1, "at least 1", value)
        if self.eval_steps and (self.method != "tamt" or not self.is_trained):
            raise UsageError("eval-steps are for --method tamt")
        if self.eval_steps and self.patience:
            raise UsageError("--patience counts evaluations at equal distances, not eval-steps")
        require("eval-steps", min(self.eval_steps, default=1) >= 1, "at least 1", self.eval_steps)
        if self.patience and not self.eval_every:
            raise UsageError("--patience counts evaluations: give --eval-every, too")

    @property
    def is_trained(self) -> bool:
        """Whether it takes training, and is neither one-shot nor derived from a search."""
        return self.method in ("tamt", "imp") and self.from_scores is None

    @property
    def terms(self) -> Terms:
        """What the objective is a sum of."""
        return terms_of(self.objective)

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
        return {key: value for key, value in plain(self).items() if key not in left_out}

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
            file = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe, cls)
            recipe = file.base
            merged = file.values | changes
            changes = file.values | file.by_method.get(merged.get("method", "tamt"), {}) | changes
        if "sparsity" not in changes:
            raise UsageError("--sparsity is needed, for example --sparsity 0.8")
        check_sparsity(changes["sparsity"])
        method = changes.setdefault("method", "tamt")
        one_of("method", method, METHODS)
        objective = changes.setdefault("objective", "mlm")
        one_of("objective", objective, objectives())
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
            require("prune-every", every >= 1, "at least 1", every)
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
