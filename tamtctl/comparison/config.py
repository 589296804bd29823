"""What a comparison is told, each setting declared once; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tamtctl.comparison.grid import Cell, TimedBudget
from tamtctl.foundations import shared_settings as shared
from tamtctl.foundations.checks import at_least, each, positive, seed_number
from tamtctl.foundations.config import (
    DATA,
    METHOD,
    OUTPUT,
    TRAINING,
    Config,
    Typed,
    configuration,
    setting,
    settings_of,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import CRITERIA, REFERENCE
from tamtctl.pruning.cuts import check_sparsity, cut_sparsities
from tamtctl.pruning.methods import DEFAULT_METHODS, IMP, IMP_OBJECTIVE, sweep_methods
from tamtctl.pruning.patterns import PATTERNS, UNSTRUCTURED
from tamtctl.pruning.recipes import RECIPES, Recipe
from tamtctl.tasks.registry import TASKS, find_task

BUDGETS = ("steps", "seconds")


def _check_sparsity(_: str, sparsity: float) -> None:
    check_sparsity(sparsity)
    if len(cut_sparsities(sparsity)) == 1:
        raise UsageError(
            f"--sparsity {sparsity:g}: imp reaches it without training, so there is no equal "
            "budget; give sparsities above 0.1"
        )


@configuration
class CompareConfig(Config):
    """What to compare: tickets that exist, or a sweep of methods, sparsities and seeds."""

    tickets: tuple[str, ...] = setting(
        default=(),
        help="Tickets to set beside the dense model, random and magnitude masks: folder, packaged "
        "name or Hub id. Without any, --sparsity says what to find.",
        panel=METHOD,
        typed=Typed(is_argument=True, metavar="[TICKET]..."),
    )
    sparsities: tuple[float, ...] = setting(
        default=(),
        help="Sweep these sparsities, for example 0.5,0.7,0.9, above 0.1.",
        panel=METHOD,
        check=each(_check_sparsity),
        typed=Typed(name="sparsity", between_commas=True),
    )
    methods: tuple[str, ...] = setting(
        default=(),
        help="Methods of the sweep, in the order of the table, of {choices}. By default "
        f"{','.join(DEFAULT_METHODS)}, of which a model without masked-LM head leaves out those "
        "that need it.",
        panel=METHOD,
        choices=sweep_methods,
        typed=Typed(between_commas=True),
    )
    pattern: str | None = setting(
        default=None,
        help="Which weights the masks of the sweep may keep together, one of {choices}; by default "
        "the recipe's, or unstructured.",
        panel=METHOD,
        choices=PATTERNS,
        before=None,
    )
    seeds: tuple[int, ...] = setting(
        default=(),
        help="Search seeds of the sweep, for example 1,2,3; by default the recipe's, or 1. Random "
        "masks are drawn with at least three.",
        panel=METHOD,
        check=each(seed_number),
        typed=Typed(between_commas=True),
    )
    recipe: str | Recipe = setting(
        default="nano",
        help="Preset of the sweep's searches: {choices}, or a TOML file of settings.",
        more="A file is read once: the whole sweep is of what it held then.",
        panel=METHOD,
        choices=RECIPES,
        is_open=True,
    )
    model: str | None = setting(
        default=None,
        help="Hub id, folder, or nano; by default the recipe's, or the tickets'.",
        panel=DATA,
    )
    corpus: tuple[str, ...] = setting(
        default=(),
        help="Text as in search, whose held-out tenth is evaluated on; by default the recipe's, or "
        "each text that a ticket was trained on. May be given several times.",
        panel=DATA,
    )
    text_column: str | None = shared.text_column()
    sequence_length: int | None = setting(
        default=None,
        help="Tokens per sequence; by default the recipe's, or those of the first ticket.",
        panel=TRAINING,
        check=at_least(8),
    )
    prune_every: int | None = setting(
        default=None,
        help="Steps between two cuts of iterative magnitude pruning; mask training gets as many "
        "steps as that takes to the same sparsity. By default the recipe's.",
        panel=TRAINING,
        check=at_least(1),
    )
    budget: str = setting(
        default="steps",
        help="Give mask training as many steps, or as many seconds, as imp takes to the same "
        "sparsity.",
        panel=TRAINING,
        choices=BUDGETS,
    )
    at_steps: tuple[int, ...] = setting(
        default=(),
        help="Also evaluate mask training after just these steps: 50,100,200.",
        panel=TRAINING,
        check=each(at_least(1)),
        typed=Typed(between_commas=True),
    )
    keep_scores: bool = setting(
        default=False,
        help="Keep the scores of every mask training, and derive the other sparsities' tickets "
        "from them: what that costs against a search of their own.",
        panel=OUTPUT,
    )
    tasks: tuple[str, ...] = setting(
        default=(),
        help="Also fine-tune on these, for example sst2,mrpc: {choices}.",
        panel=DATA,
        check=each(lambda _, name: find_task(name)),
        choices=TASKS,
        is_open=True,
        typed=Typed(between_commas=True),
    )
    task_seeds: tuple[int, ...] = setting(
        default=(1,),
        help="Fine-tuning seeds.",
        panel=TRAINING,
        check=each(seed_number),
        typed=Typed(between_commas=True),
    )
    data_dir: str | None = shared.data_dir()
    limit: int | None = setting(
        default=None, help="Fine-tune on so many examples.", panel=DATA, check=positive
    )
    task_learning_rate: float | None = setting(
        default=None,
        help="Peak rate of fine-tuning; by default as in finetune.",
        panel=TRAINING,
        check=positive,
    )
    task_epochs: int | None = setting(
        default=None,
        help="Passes of fine-tuning over its training set; by default as in finetune.",
        panel=TRAINING,
        check=positive,
    )
    evaluation_blocks: int | None = setting(
        default=None,
        help="Held-out sequences at most; by default the recipe's, or 512.",
        panel=DATA,
        check=at_least(1),
        typed=Typed(name="blocks"),
        none_is=512,
    )
    precision: str | None = shared.precision(
        default=None, by_default="by default the recipe's, or auto", none_is="auto"
    )
    device: str | None = shared.device(
        default=None, by_default="by default the recipe's, or auto", none_is="auto"
    )
    threads: int | None = shared.threads(by_default="the recipe's, or torch's choice")

    def _check_together(self) -> None:
        """Read a recipe that is a file, and check every search of the sweep before the first."""
        if isinstance(self.recipe, str) and self.recipe not in RECIPES:
            self._settle("recipe", Recipe.read(self.recipe, SearchConfig))
        tables = self.recipe.by_method if isinstance(self.recipe, Recipe) else {}
        if not self.seeds and not any("seed" in values for values in tables.values()):
            self._settle("seeds", self._search_seeds(""))
        if bool(self.tickets) == bool(self.sparsities):
            raise UsageError(
                "give tickets to compare, or --sparsity 0.5,0.7,0.9 for a sweep that finds them"
            )
        if self.tickets and (self.methods or self.prune_every or self.seeds not in ((), (1,))):
            raise UsageError(
                "--methods, --seeds and --prune-every are for a sweep, with --sparsity"
            )
        if self.tickets and self.pattern:
            raise UsageError("--pattern is for a sweep, with --sparsity")
        if self.tickets and (self.at_steps or self.keep_scores):
            raise UsageError("--at-steps and --keep-scores are for a sweep, with --sparsity")
        for name in self.tickets:
            if self.tickets.count(name) > 1:
                raise UsageError(f"ticket {name!r} is given twice; give it once")
        if self.budget == "seconds" and IMP not in (self.methods or DEFAULT_METHODS):
            raise UsageError("--budget seconds is what imp takes; give it among the --methods")
        for option in ("sparsities", "methods", "seeds", "at_steps", "tasks", "task_seeds"):
            values = getattr(self, option)
            if len(set(values)) != len(values):
                raise UsageError(f"--{option.replace('_', '-')} has a value twice")
        for cell in self.cells():
            self.search_config(cell)
        self._check_steps()

    def cells(self, *, has_head: bool = True) -> list[Cell]:
        """Return the cells of the sweep, sparsity by sparsity.

        Args:
            has_head: Whether the model has a masked-LM head.

        Raises:
            UsageError: A method is asked for that needs a head, and there is none.
        """
        methods = self.methods or DEFAULT_METHODS
        if not has_head:
            methods = self._without_head(methods)
        return [
            Cell(method, sparsity, seed)
            for sparsity in sorted(self.sparsities)
            for method in methods
            for seed in self._seeds_of(method)
        ]

    def search_config(self, cell: Cell, timed: TimedBudget | None = None) -> SearchConfig:
        """Return the search that finds a cell.

        Args:
            cell: The cell.
            timed: What mask training gets if the budget is counted in seconds.

        Raises:
            UsageError: The recipe or a value is refused.
        """
        facts = cell.facts
        changes: dict[str, Any] = {
            "sparsity": cell.sparsity,
            "seed": cell.seed if cell.seed is not None else 1,
            "model": self.model,
            "corpus": self.corpus or None,
            "text_column": self.text_column,
            "sequence_length": self.sequence_length,
            "evaluation_blocks": self.evaluation_blocks,
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
            "pattern": self.pattern,
        }
        imp = {"method": IMP, "objective": IMP_OBJECTIVE, "prune_every": self.prune_every}
        if facts.method == IMP:
            return SearchConfig.from_recipe(self.recipe, **changes | imp)
        # How many steps imp takes does not depend on the pattern, which it may be unable to reach.
        equal = SearchConfig.from_recipe(self.recipe, **changes | imp | {"pattern": UNSTRUCTURED})
        if facts.trains_mask:
            changes["eval_steps"] = self.at_steps or None
            changes["keep_scores"] = self.keep_scores or None
        steps = equal.steps
        if timed:
            steps, changes["max_minutes"] = timed.steps, timed.seconds / 60
        return SearchConfig.from_recipe(
            self.recipe, method=facts.method, objective=facts.objective, steps=steps, **changes
        )

    def defaults(self) -> SearchConfig:
        """Return a search of the recipe: it says what is not asked for, as where to compute."""
        return self.search_config(Cell(REFERENCE, 0.5, None))

    @property
    def mask_pattern(self) -> str:
        """The pattern of the sweep's masks, and of those that tickets are set beside."""
        if self.tickets:
            return UNSTRUCTURED
        return self.search_config(self.cells()[0]).pattern

    def notes_on_steps(self, cells: Sequence[Cell]) -> list[str]:
        """Return where a step of ``at_steps`` is beyond what mask training takes."""
        if self.budget != "steps":
            return ["--at-steps: a training that ends before a step is not evaluated there"] * bool(
                self.at_steps
            )
        notes = []
        for sparsity, steps in self._budgets(cells).items():
            if beyond := [str(step) for step in sorted(self.at_steps) if step > steps]:
                notes.append(
                    f"at {sparsity:g} mask training takes {steps} steps: it is not evaluated at "
                    f"--at-steps {','.join(beyond)}"
                )
        return notes

    def _check_steps(self) -> None:
        """Refuse what only mask training can do, and steps that none of it takes."""
        trained = [cell for cell in self.cells() if cell.facts.trains_mask]
        if (self.at_steps or self.keep_scores) and not trained:
            raise UsageError(
                "--at-steps and --keep-scores are of mask training; give it among the --methods, "
                "for example tamt-mlm"
            )
        if not self.at_steps or self.budget != "steps":
            return
        most = max(self._budgets(trained).values())
        if (latest := max(self.at_steps)) > most:
            raise UsageError(
                f"--at-steps {latest} is beyond the {most} steps of the longest mask training; "
                "give earlier ones, or a larger --prune-every"
            )

    def _budgets(self, cells: Sequence[Cell]) -> dict[float, int]:
        """Return sparsity → optimiser steps of mask training."""
        trained = [cell for cell in cells if cell.facts.trains_mask]
        return {cell.sparsity: self.search_config(cell).steps for cell in trained}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a recipe file counts by its name and by what it held."""
        told = super().to_dict()
        if isinstance(self.recipe, Recipe):
            told |= {"recipe": self.recipe.name, "recipe_settings": asdict(self.recipe)}
        return told

    def _search_seeds(self, method: str) -> tuple[int, ...]:
        """Return the seeds of a method's searches: those asked for, else the recipe's for it."""
        if self.seeds:
            return self.seeds
        values = self.recipe.of_method(method) if isinstance(self.recipe, Recipe) else {}
        return (values.get("seed", settings_of(SearchConfig)["seed"].default),)

    def _seeds_of(self, method: str) -> tuple[int | None, ...]:
        seeds = self._search_seeds(sweep_methods()[method].method)
        return CRITERIA[method].seeds(seeds) if method in CRITERIA else seeds

    def _without_head(self, methods: tuple[str, ...]) -> tuple[str, ...]:
        possible = _headless(methods)
        if self.methods and possible != methods:
            (first, *_) = [method for method in methods if method not in possible]
            *others, last = _headless(DEFAULT_METHODS)
            raise UsageError(
                f"--methods {first} needs a masked-LM head, which model {self.model!r} does not "
                f"have; give {', '.join(others)} and {last}"
            )
        return possible


def _headless(methods: Sequence[str]) -> tuple[str, ...]:
    """Return those methods that need no masked-LM head."""
    known = sweep_methods()
    return tuple(method for method in methods if not known[method].needs_head)
