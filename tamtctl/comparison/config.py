"""What a comparison is told, and the cells that a sweep consists of; imports nothing heavy."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tamtctl.foundations.checks import one_of, positive
from tamtctl.foundations.config import DEVICES, PRECISIONS
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.settings import settle
from tamtctl.pruning.config import SearchConfig, check_sparsity, cut_sparsities
from tamtctl.pruning.methods import DEFAULT_METHODS, IMP, IMP_OBJECTIVE, Method, sweep_methods
from tamtctl.pruning.recipes import RECIPES, Recipe
from tamtctl.tasks.registry import find_task

BUDGETS = ("steps", "seconds")
# What a folder's name has for settings that are left to the recipe.
_OF_THE_RECIPE = {"evaluation_blocks": 512, "precision": "auto", "device": "auto"}
RANDOM_SEEDS = (1, 2, 3)  # at least: random masks differ more than any others, and cost nothing


@dataclass(frozen=True)
class Cell:
    """One subnetwork of a sweep; ``seed`` is None where the method has none."""

    method: str
    sparsity: float
    seed: int | None

    @property
    def facts(self) -> Method:
        """What is known of its method."""
        return sweep_methods()[self.method]

    @property
    def is_trained(self) -> bool:
        """Whether it takes a search, and is no one-shot mask."""
        return self.facts.is_trained

    @property
    def objective(self) -> str | None:
        """What its mask is trained for."""
        return self.facts.objective if self.is_trained else None

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.method} at {self.sparsity:g}{seed}"


@dataclass(frozen=True)
class TimedBudget:
    """What mask training gets: so many seconds, in which about so many steps are done."""

    seconds: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What to compare: tickets that exist, or a sweep of methods, sparsities and seeds.

    Attributes:
        tickets: Folders, packaged names or Hub ids; empty for a sweep.
        sparsities: Of a sweep.
        methods: Names in `tamtctl.pruning.methods.sweep_methods`; empty: the default ones, less
            those that need a masked-LM head if the model has none.
        seeds: Of the searches of a sweep; by default the one of a recipe file, or 1.
        recipe: A name in `tamtctl.pruning.recipes.RECIPES`, or a TOML file, which is read once: the
            whole sweep is of what it held then.
        model: By default the recipe's, or that of the first ticket.
        corpus: By default the recipe's, or of tickets each text that one was trained on.
        text_column: Column of the text in jsonl, parquet and datasets.
        sequence_length: Tokens per sequence; by default the recipe's, or that of the first ticket.
        prune_every: Steps between two cuts of iterative magnitude pruning; by default the recipe's.
            Mask training gets as many steps as that takes to the same sparsity.
        budget: Instead of the ``steps``, mask training may get the ``seconds`` that the training of
            iterative magnitude pruning took.
        at_steps: Also evaluate mask training after just these steps.
        keep_scores: Keep the scores of every mask training, and derive from them what it would give
            at the other sparsities.
        tasks: Also fine-tune every subnetwork on these.
        task_seeds: Of fine-tuning.
        data_dir: Folder of the tasks' files; by default the Hub.
        limit: Fine-tune on so many examples.
        task_learning_rate: Of fine-tuning; by default as in `FinetuneConfig`.
        task_epochs: Of fine-tuning; by default as in `FinetuneConfig`.
        evaluation_blocks: Held-out sequences to evaluate on at most; by default the recipe's.
        precision: ``fp32``, ``bf16`` autocast, or ``auto`` (bf16 where it is fast); by default the
            recipe's.
        device: ``auto`` takes cuda, then mps, then cpu; by default the recipe's.
        threads: CPU threads; by default the recipe's, or torch's choice.
    """

    tickets: tuple[str, ...] = ()
    sparsities: tuple[float, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    recipe: str | Recipe = "nano"
    model: str | None = None
    corpus: tuple[str, ...] = ()
    text_column: str | None = None
    sequence_length: int | None = None
    prune_every: int | None = None
    budget: str = "steps"
    at_steps: tuple[int, ...] = ()
    keep_scores: bool = False
    tasks: tuple[str, ...] = ()
    task_seeds: tuple[int, ...] = (1,)
    data_dir: str | None = None
    limit: int | None = None
    task_learning_rate: float | None = None
    task_epochs: int | None = None
    evaluation_blocks: int | None = None
    precision: str | None = None
    device: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value, and read a recipe that is a file.

        Raises:
            UsageError: A value is out of range or unknown; the message names the option.
        """
        settle(self)
        if isinstance(self.recipe, str) and self.recipe not in RECIPES:
            object.__setattr__(self, "recipe", Recipe.read(self.recipe, SearchConfig))
        if not self.seeds:
            values = self.recipe.values if isinstance(self.recipe, Recipe) else {}
            object.__setattr__(self, "seeds", (values.get("seed", 1),))
        if bool(self.tickets) == bool(self.sparsities):
            raise UsageError(
                "give tickets to compare, or --sparsity 0.5,0.7,0.9 for a sweep that finds them"
            )
        if self.tickets and (self.methods or self.prune_every or self.seeds != (1,)):
            raise UsageError(
                "--methods, --seeds and --prune-every are for a sweep, with --sparsity"
            )
        if self.tickets and (self.at_steps or self.keep_scores):
            raise UsageError("--at-steps and --keep-scores are for a sweep, with --sparsity")
        for name in self.tickets:
            if self.tickets.count(name) > 1:
                raise UsageError(f"ticket {name!r} is given twice; give it once")
        if any(step < 1 for step in self.at_steps):
            raise UsageError(f"--at-steps must be at least 1, got {min(self.at_steps)}")
        for sparsity in self.sparsities:
            check_sparsity(sparsity)
            if len(cut_sparsities(sparsity)) == 1:
                raise UsageError(
                    f"--sparsity {sparsity:g}: imp reaches it without training, so there is no "
                    "equal budget; give sparsities above 0.1"
                )
        for name in self.methods:
            one_of("methods", name, tuple(sweep_methods()))
        for name in self.tasks:
            find_task(name)
        for option in ("limit", "task_learning_rate", "task_epochs", "threads"):
            positive(option, getattr(self, option))
        one_of("budget", self.budget, BUDGETS)
        if self.budget == "seconds" and IMP not in (self.methods or DEFAULT_METHODS):
            raise UsageError("--budget seconds is what imp takes; give it among the --methods")
        if self.device is not None:
            one_of("device", self.device, DEVICES)
        if self.precision is not None:
            one_of("precision", self.precision, PRECISIONS)
        for option in ("sparsities", "methods", "seeds", "at_steps", "tasks", "task_seeds"):
            values = getattr(self, option)
            if len(set(values)) != len(values):
                raise UsageError(f"--{option.replace('_', '-')} has a value twice")
        for cell in self.cells():  # refuses what a search would refuse, before the first one
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
        }
        equal = SearchConfig.from_recipe(
            self.recipe,
            method=IMP,
            objective=IMP_OBJECTIVE,
            prune_every=self.prune_every,
            **changes,
        )
        if facts.method == IMP:
            return equal
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
        return self.search_config(Cell("magnitude", 0.5, None))

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
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        values |= {key: default for key, default in _OF_THE_RECIPE.items() if values[key] is None}
        if isinstance(self.recipe, Recipe):
            values |= {"recipe": self.recipe.name, "recipe_settings": asdict(self.recipe)}
        return values

    @property
    def hash(self) -> str:
        """Eight hex digits that name this comparison's folder."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _seeds_of(self, method: str) -> tuple[int | None, ...]:
        if method == "magnitude":
            return (None,)
        if method == "random" and len(self.seeds) < len(RANDOM_SEEDS):
            return RANDOM_SEEDS
        return self.seeds

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


def units_of_work(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Group cells into what can run apart, each of it in order.

    Iterative magnitude pruning passes every smaller sparsity on its way to a larger one: the cells
    of one seed are one run.
    """
    chains: dict[object, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.sparsity):
        key = (cell.method, cell.seed) if cell.method == IMP else cell
        chains.setdefault(key, []).append(cell)
    return [tuple(chain) for chain in chains.values()]


def parse_shard(text: str, config: CompareConfig) -> tuple[int, int]:
    """Return (2, 8) for ``2/8``.

    Raises:
        UsageError: It is not of that form, or not for a sweep.
    """
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard must be like 2/8, from 1/8 to 8/8, got {text!r}")
    if config.tickets:
        raise UsageError("--shard is for a sweep, with --sparsity")
    if config.budget == "seconds":
        raise UsageError("--shard cannot know the --budget seconds that imp takes in another part")
    return part, parts
