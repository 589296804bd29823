"""What a search is told, each setting declared once.

Imports nothing heavy, so that the command line can check a request before it loads torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import at_least, each, given, positive, require, seed_number
from tamtctl.foundations.config import (
    DATA,
    METHOD,
    OUTPUT,
    RUN,
    TRAINING,
    Config,
    configuration,
    setting,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.criteria import CRITERIA, REFERENCE, Criterion
from tamtctl.pruning.cuts import check_sparsity, imp_steps
from tamtctl.pruning.methods import IMP, IMP_OBJECTIVE, TAMT, TRAINED, methods
from tamtctl.pruning.objectives import Terms, objectives, terms_of
from tamtctl.pruning.recipes import Recipe, recipe_values

REWINDS = ("weights", "none")
CLIPPING = ("global", "per-tensor")
LOGS = ("tensorboard",)
MOST_STEPS = 10**8  # of a training: years; what is above is a slip of the keyboard
_STEPS = f"at least 1 and at most {MOST_STEPS:,}"


@configuration
class SearchConfig(Config):
    """Everything that determines a search; two equal configurations find the same ticket."""

    sparsity: float = setting(
        help="Share of zeros in every matrix, in [0, 1).",
        panel=METHOD,
        check=lambda _, value: check_sparsity(value),
    )
    model: str = setting(help="Model to prune: Hub id, folder, or nano.", panel=DATA)
    corpus: tuple[str, ...] = setting(
        help="Text to train on: python-docs, a file (txt, gz, xz, jsonl, parquet), a folder, or a "
        "Hub dataset id[:config]. May be given several times.",
        panel=DATA,
        check=given("at least one source"),
    )
    stream: bool = setting(
        default=False,
        help="Read the corpus, a Hub dataset, while training on it: for one too large for the "
        "disk. The learning rate falls over --steps.",
        more="The order depends on the number of processes; only the first held-out documents are "
        "kept on the disk.",
        panel=DATA,
    )
    held_out: tuple[str, ...] = setting(
        default=(),
        help="Text to evaluate on; by default a stable tenth of the corpus.",
        panel=DATA,
    )
    check_corpus: tuple[str, ...] = setting(
        default=(),
        help="Text of a second domain, whose held-out tenth is evaluated on, too.",
        panel=DATA,
    )
    text_column: str | None = shared.text_column()
    method: str = setting(
        default=TAMT,
        help="How the mask is found, one of {choices}.",
        more="`tamt` trains the mask, `imp` is iterative magnitude pruning; others take no "
        "training.",
        panel=METHOD,
        choices=methods,
    )
    objective: str = setting(
        default="mlm",
        help="Loss that the mask is trained to lower, one of {choices}.",
        more="TAMT, §3.2.",
        panel=METHOD,
        choices=objectives,
    )
    init: str = setting(
        default=REFERENCE,
        help="Mask to start from: {choices}, or a ticket.",
        panel=METHOD,
        choices=CRITERIA,
        is_open=True,
    )
    steps: int = setting(
        help="Optimiser steps; those of imp follow from --prune-every.",
        panel=TRAINING,
        check=lambda option, value: require(option, value >= 0, _STEPS, value),
    )
    prune_every: int | None = setting(
        default=None,
        help="imp: steps between two cuts of 10 % of the weights.",
        panel=METHOD,
        check=at_least(1),
    )
    rewind: str = setting(
        default="weights",
        help="imp: after a cut go back to the pre-trained weights (weights), or train on (none).",
        panel=METHOD,
        choices=REWINDS,
    )
    schedule_epochs: float | None = setting(
        default=None,
        help="Passes of the corpus over which the learning rate falls linearly to 0 (the run is "
        "cut at `steps`); by default it falls over `steps`, or over `prune_every` of imp.",
        panel=TRAINING,
        check=positive,
        typed=None,
    )
    batch_size: int = setting(
        default=16, help="Sequences per optimiser step.", panel=TRAINING, check=at_least(1)
    )
    micro_batch_size: int | None = setting(
        default=None,
        help="Sequences per forward pass (gradient accumulation); by default the whole batch.",
        panel=TRAINING,
        check=positive,
    )
    sequence_length: int = setting(
        help="Tokens per sequence, special tokens included.", panel=TRAINING, check=at_least(8)
    )
    learning_rate: float = setting(
        help="Peak rate of the scores, or of the weights that imp trains.",
        more="Kept and pruned scores start 0.02 apart.",
        panel=TRAINING,
        check=positive,
    )
    weight_decay: float = setting(
        default=0.0,
        help="Decoupled weight decay of scores and head.",
        panel=TRAINING,
        check=at_least(0),
        typed=None,
    )
    adam_epsilon: float = setting(
        default=1e-8,
        help="Adam's epsilon, added outside the bias correction, as in the paper's AdamW.",
        panel=TRAINING,
        check=positive,
        typed=None,
    )
    bias_correction: bool = setting(
        default=True,
        help="Correct the bias of Adam's moments.",
        panel=TRAINING,
        typed=None,
    )
    clip: str = setting(
        default="global",
        help="Which norm of the gradients is clipped: that of scores and head together (global), "
        "or that of each tensor (per-tensor).",
        panel=TRAINING,
        choices=CLIPPING,
        typed=None,
    )
    max_grad_norm: float = setting(
        default=1.0, help="Norm to clip to.", panel=TRAINING, check=positive, typed=None
    )
    dropout: bool = setting(
        default=True, help="Leave the student's dropout on.", panel=TRAINING, typed=None
    )
    evaluation_blocks: int = setting(
        default=512,
        help="Held-out sequences to evaluate on at most.",
        panel=DATA,
        check=at_least(1),
        typed=None,
    )
    precision: str = shared.precision()
    compile: bool = setting(
        default=False,
        help="Compile the encoder: minutes at first, then faster steps on a GPU.",
        panel=RUN,
        before=False,
    )
    low_memory: bool = setting(
        default=False,
        help="On a CPU, keep the frozen weights in a file and Adam's first moments in bfloat16: "
        "14 bytes per weight instead of 20, where dense training takes 16.",
        panel=RUN,
        before=False,
    )
    device: str = shared.device()
    threads: int | None = shared.threads()
    seed: int = setting(
        default=1,
        help="Seed of noise, order, random masks and dropout.",
        panel=RUN,
        check=seed_number,
    )
    max_minutes: float | None = setting(
        default=None, help="Stop training after so many minutes.", panel=TRAINING, check=positive
    )
    checkpoint_every: int | None = setting(
        default=None,
        help="Steps between checkpoints; by default, every 5 minutes.",
        panel=RUN,
        check=at_least(1),
        names_run=False,
    )
    eval_every: int | None = setting(
        default=None,
        help="Steps between evaluations on held-out text; by default only at the end.",
        panel=TRAINING,
        check=at_least(1),
    )
    patience: int | None = setting(
        default=None,
        help="Stop after so many evaluations in a row without a lower loss.",
        more="The ticket is that of the last step, not of the best evaluation: choosing it by the "
        "very losses that are reported would flatter it.",
        panel=TRAINING,
        check=at_least(1),
        before=None,
    )
    log_to: str | None = setting(
        default=None,
        help="Where to log besides metrics.jsonl: {choices}.",
        panel=OUTPUT,
        choices=LOGS,
        names_run=False,
    )
    keep_scores: bool | None = setting(
        default=None,
        help="Keep the trained scores in the run's folder.",
        panel=OUTPUT,
        names_run=False,
    )
    from_scores: str | None = setting(
        default=None,
        help="The folder of a search that kept its scores: derive the ticket of --sparsity from "
        "them, without training. All else is as it was there.",
        panel=METHOD,
        before=None,
    )
    base_model: str | None = setting(
        default=None,
        help="What a model in a local folder is on the Hub: org/name[@revision]. Its weights are "
        "compared with those in the Hub's cache, if they are there.",
        panel=DATA,
        before=None,
    )
    eval_steps: tuple[int, ...] = setting(
        default=(),
        help="Evaluate the mask on held-out text after just these steps, too.",
        panel=TRAINING,
        check=each(at_least(1)),
        typed=None,
        names_run=False,
    )

    def _check_together(self) -> None:
        self._check_pruning()
        self._check_watching()
        self._check_stream()
        if self.method != TAMT and (self.compile or self.low_memory):
            raise UsageError("--compile and --low-memory are for --method tamt")

    def _check_pruning(self) -> None:
        if self.method != IMP:
            require("steps", 1 <= self.steps <= MOST_STEPS, _STEPS, self.steps)
            if self.prune_every is not None or self.rewind != "weights":
                raise UsageError("--prune-every and --rewind are for --method imp")
            return
        if self.objective != IMP_OBJECTIVE:
            raise UsageError(
                f"--method imp trains on {IMP_OBJECTIVE}, not on --objective {self.objective}"
            )
        if self.init != REFERENCE:
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
        for name in ("checkpoint_every", "eval_every", "patience", "log_to", "keep_scores"):
            option = name.replace("_", "-")
            if getattr(self, name) is None:
                continue
            if self.method == IMP and name in ("eval_every", "patience"):
                raise UsageError(
                    f"--{option} is for --method tamt: what imp trains, it gives up at the next cut"
                )
            if not self.is_trained:
                raise UsageError(f"--{option} is for methods that train, not for {self.method}")
        if self.keep_scores is not None and self.method == IMP:
            raise UsageError("--keep-scores is for --method tamt: imp trains no scores")
        if self.eval_steps and (self.method != TAMT or not self.is_trained):
            raise UsageError("eval-steps are for --method tamt")
        if self.eval_steps and self.patience:
            raise UsageError("--patience counts evaluations at equal distances, not eval-steps")
        if self.patience and not self.eval_every:
            raise UsageError("--patience counts evaluations: give --eval-every, too")

    @property
    def is_trained(self) -> bool:
        """Whether it takes training, and is neither one-shot nor derived from a search."""
        return self.method in TRAINED and self.from_scores is None

    @property
    def terms(self) -> Terms:
        """What the objective is a sum of."""
        return terms_of(self.objective)

    @property
    def criterion(self) -> Criterion:
        """What ranks the weights of the initial mask, which a one-shot method ends with."""
        asked = (self.method, *([] if self.from_scores else [self.init]))
        return CRITERIA[next((name for name in asked if name in CRITERIA), REFERENCE)]

    @property
    def needs_head(self) -> bool:
        """Whether the model needs its pre-trained masked-LM head."""
        return self.terms.need_head or self.criterion.needs_head

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the ticket as plain JSON values, for ``ticket.json`` and the run.

        How a search is watched is left out: it is still the same search.
        """
        told = super().to_dict()
        if self.patience is None:  # evaluations that stop nothing change nothing
            del told["eval_every"]
        return told

    @classmethod
    def from_recipe(cls, recipe: str | Path | Recipe, **changes: Any) -> Self:
        """Return a recipe's configuration with some values changed; None leaves the recipe's.

        Args:
            recipe: A name in `tamtctl.pruning.recipes.RECIPES`, or a recipe file or its name.
            **changes: `SearchConfig` values; ``sparsity`` is needed.

        Raises:
            UsageError: No such recipe, a file that is not TOML, or a value that is refused.
        """
        return cls(**recipe_values(recipe, cls, changes))
