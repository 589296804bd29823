"""The configuration of a search: its settings, and which of them go together.

Imports nothing heavy, so that the command line can check a request before it loads torch.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from tamtctl.foundations.checks import require
from tamtctl.foundations.config import Config, configuration, show_settings
from tamtctl.foundations.errors import UsageError
from tamtctl.models.sizes import Size
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.criteria import (
    CRITERIA,
    REFERENCE,
    Criterion,
    find_criterion,
    is_criterion,
)
from tamtctl.pruning.latency.settings import OF_A_LATENCY, ONNX, TORCH, USUAL_SIZE
from tamtctl.pruning.methods import IMP, IMP_OBJECTIVE, TAMT, TRAINED
from tamtctl.pruning.objectives import Terms, terms_of
from tamtctl.pruning.patterns import find_pattern, pattern_names
from tamtctl.pruning.recipes import Recipe, blaming, opened, recipe_values
from tamtctl.pruning.settings import MOST_STEPS, STEPS_RANGE, TWO_VALUED, SearchSettings
from tamtctl.pruning.sparsities import ONE_TARGET, SPARSITY_NEEDED, cut_sparsities, imp_steps
from tamtctl.pruning.word_floor import why_no_word_floor
from tamtctl.ticket.format.patterns import is_cut_from_graphs, is_sliced

# The parameters of a configuration's constructor, and the configuration that it makes.
Changes = ParamSpec("Changes")
Made = TypeVar("Made")

_FLOOR = 0.02  # least share of its weights that a matrix keeps by default


@configuration
class SearchConfig(SearchSettings):
    """Everything that determines a search; two equal configurations find the same ticket.

    Example:
        >>> config = tamtctl.SearchConfig.from_recipe("nano", sparsity=0.8, corpus="my-text.txt")
        >>> config.steps, config.corpus
        (240, ('my-text.txt',))
    """

    def _check_together(self) -> None:
        self._check_latency()
        self._check_pattern()
        self._check_budgets()
        self._check_word_floor()
        self._check_pruning()
        self._check_watching()
        self._check_stream()
        if self.device == "mps":
            raise UsageError(
                "--device mps has no float64, in which a search ranks weights; give --device cpu"
            )
        if self.is_trained and self.terms.compare_rows and self.batch_size < 2:
            raise UsageError(
                f"--objective {self.objective} compares the rows of a batch with each other; give "
                "a larger --batch-size"
            )
        if self.method != TAMT and (self.compile or self.low_memory):
            raise UsageError("--compile and --low-memory are for --method tamt")
        if self.method != TAMT and self.head_learning_rate is not None:
            raise UsageError("--head-learning-rate is for --method tamt")
        if self.method != TAMT and self.init_scores != TWO_VALUED:
            raise UsageError(
                f"--init-scores is for --method tamt: {self.method} trains no scores; "
                "a recipe file has it in a table [tamt]"
            )

    def _check_latency(self) -> None:
        """Check the settings of a latency, and fill in the size at which it is measured."""
        if self.latency is None:
            for name in OF_A_LATENCY:
                if getattr(self, name) is not None:
                    raise UsageError(f"--{name.replace('_', '-')} is for --latency; give that, too")
            if self.sparsity is None:
                raise UsageError(SPARSITY_NEEDED)
            return
        if self.sparsity is not None:
            raise UsageError(ONE_TARGET)
        if self.latency_backend == TORCH:  # as if it had not been said
            self._settle("latency_backend", None)
        self._check_faster_pattern()
        if self.from_scores is not None:
            raise UsageError("--latency is for a search, and not for --from-scores")
        if self.method == IMP:
            raise UsageError(
                "--latency is not for --method imp, whose steps follow from the sparsity; give "
                "--sparsity"
            )
        for name, usual in USUAL_SIZE.items():
            if getattr(self, name) is None:
                self._settle(name, usual)

    def _check_faster_pattern(self) -> None:
        """Refuse a latency for a pattern that does not make a model faster on the backend."""
        if is_sliced(self.pattern):
            return
        if not is_cut_from_graphs(self.pattern):
            smaller = ", ".join(name for name in pattern_names() if is_sliced(name))
            raise UsageError(
                f"--latency is for patterns that make a model faster, {smaller}, and not for "
                f"--pattern {self.pattern}"
            )
        if self.latency_backend != ONNX:
            raise UsageError(
                f"--pattern {self.pattern} makes nothing faster in torch, as no configuration of "
                f"transformers can say it; give --latency-backend {ONNX}"
            )

    def _check_pattern(self) -> None:
        row = find_pattern(self.pattern)
        if self.latency is not None:  # the sparsity is found later, and may be any
            return
        if not row.has(self.settled_sparsity):
            raise UsageError(
                f"--pattern {row.name} has the sparsity {row.sparsity:g} alone; "
                f"give --sparsity {row.sparsity:g}"
            )
        if self.method == IMP and not (
            row.takes_cuts or all(map(row.has, cut_sparsities(self.settled_sparsity)))
        ):
            raise UsageError(
                f"--method imp cuts to several sparsities, and --pattern {row.name} has one alone; "
                "give another method"
            )

    def _check_budgets(self) -> None:
        if ALLOCATIONS[self.allocation].is_uniform:
            for name in ("budget_criterion", "floor"):
                if getattr(self, name) is not None:
                    raise UsageError(
                        f"--{name.replace('_', '-')} is for an --allocation that is not "
                        f"{self.allocation}"
                    )
            return
        if not find_pattern(self.pattern).takes_budgets:
            raise UsageError(
                f"--pattern {self.pattern} keeps the same share of every matrix: --allocation "
                f"{self.allocation} does not go with it"
            )
        if self.latency is not None:
            raise UsageError(
                f"--latency finds how much each layer keeps, and --allocation {self.allocation} "
                "shares that out in another way; give --sparsity"
            )
        if self.budget_criterion is None and not is_criterion(self.init):
            raise UsageError(
                f"--allocation {self.allocation} shares out by a criterion, and --init {self.init} "
                f"is a ticket; give --budget-criterion, such as {REFERENCE}"
            )
        row = self.budgets_by
        assert row is not None
        if not row.has_unit:
            raise UsageError(
                f"--allocation {self.allocation} compares importances across matrices, and those "
                f"of {row.name} mean nothing there; give --budget-criterion, such as {REFERENCE}"
            )
        sparsity = self.settled_sparsity
        if Decimal(repr(self.least_share)) + Decimal(repr(sparsity)) > 1:
            raise UsageError(
                f"--floor {self.least_share:g} keeps more of every matrix than --sparsity "
                f"{sparsity:g} keeps of all; with this floor it is at most "
                f"{float(1 - Decimal(repr(self.least_share))):g}"
            )

    def _check_word_floor(self) -> None:
        told = self.method, self.init, self.init_scores, self.pattern
        if self.word_floor and (why := why_no_word_floor(*told)):
            raise UsageError(f"--word-floor is not for this search: {why}")

    def _check_pruning(self) -> None:
        if self.method != IMP:
            require("steps", 1 <= self.steps <= MOST_STEPS, STEPS_RANGE, self.steps)
            if self.prune_every is not None or self.rewind != "weights":
                raise UsageError("--prune-every and --rewind are for --method imp")
            if self.method != TAMT and self.init != REFERENCE:
                raise UsageError(
                    f"--init is what tamt starts from, and not for --method {self.method}; in a "
                    "recipe file, put it into a table [tamt]"
                )
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
        wanted = imp_steps(self.settled_sparsity, every or 0)
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
    def settled_sparsity(self) -> float:
        """Share of zeros; in a search by latency, only known once the latency has been measured."""
        assert self.sparsity is not None
        return self.sparsity

    @property
    def latency_size(self) -> Size:
        """Texts, tokens and threads with which a latency is measured."""
        sizes = self.latency_threads, self.latency_batch, self.latency_length
        return Size(*(value for value in sizes if value is not None))  # settled together

    @property
    def settled_backend(self) -> str:
        """What runs the models whose latency is measured."""
        return self.latency_backend or TORCH

    @property
    def is_trained(self) -> bool:
        """Whether the search trains: it is neither one-shot nor derived from kept scores."""
        return self.method in TRAINED and self.from_scores is None

    @property
    def head_rate(self) -> float:
        """Peak learning rate of the masked-LM head, which trains along with a mask; 0: frozen."""
        if self.head_learning_rate is not None:
            return self.head_learning_rate
        return self.learning_rate if self.init_scores == TWO_VALUED else 0.0

    @property
    def terms(self) -> Terms:
        """The terms that the objective is a sum of."""
        return terms_of(self.objective)

    @property
    def criterion(self) -> Criterion:
        """What ranks the weights of the initial mask, the final one of a one-shot method."""
        return _first(self.method, *([] if self.from_scores else [self.init]))

    @property
    def budgets_by(self) -> Criterion | None:
        """The criterion that sets the matrices' budgets; None if all have the same sparsity."""
        if ALLOCATIONS[self.allocation].is_uniform:
            return None
        if self.budget_criterion is not None:
            return CRITERIA[self.budget_criterion]
        return _first(self.method, self.init)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """All criteria that the search uses: for the order, and for budgets if there are any."""
        return (self.criterion, *([self.budgets_by] if self.budgets_by else []))

    @property
    def least_share(self) -> float:
        """The least share of its weights that a matrix keeps, where budgets differ."""
        return _FLOOR if self.floor is None else self.floor

    @property
    def needs_head(self) -> bool:
        """Whether the model needs its pre-trained masked-LM head."""
        return self.terms.need_head or any(row.needs_head for row in self.criteria)

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the ticket as plain JSON values, for ``ticket.json`` and the run.

        Settings that only watch a search are left out: they do not change its ticket.
        """
        told = super().to_dict()
        if self.patience is None:  # evaluations that stop nothing change nothing
            del told["eval_every"]
        return told

    @classmethod
    def from_recipe(
        cls: Callable[Changes, Made],
        recipe: str | Path | Recipe,
        *none: Changes.args,
        **changes: Changes.kwargs,
    ) -> Made:
        """Return a recipe's configuration with some values changed; None leaves the recipe's.

        Args:
            recipe: A name in `tamtctl.pruning.recipes.RECIPES`, or a recipe file or its name.
            *none: All settings are given by their names.
            **changes: Settings; ``sparsity`` or ``latency`` is needed, unless a recipe file has it.

        Raises:
            UsageError: No such recipe, a file that is not TOML, or a value that is refused.
        """
        kind = cast(type[Config], cls)
        found = opened(recipe, kind)
        with blaming(found, changes):
            return cls(*none, **recipe_values(found, kind, changes))


def _first(*names: str) -> Criterion:
    """Return the first of these that is a criterion; the reference if none is."""
    return find_criterion(next(filter(is_criterion, names), REFERENCE))


show_settings(SearchConfig, "from_recipe")
