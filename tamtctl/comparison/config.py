"""The configuration of a comparison, and the searches that it takes; imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tamtctl.comparison.grid import Cell, OtherAllocation, TimedBudget
from tamtctl.comparison.settings import CompareSettings
from tamtctl.foundations.checks import different, one_of
from tamtctl.foundations.config import (
    configuration,
    settings_of,
)
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import REFERENCE, find_criterion, is_criterion
from tamtctl.pruning.methods import IMP, IMP_OBJECTIVE, default_methods
from tamtctl.pruning.patterns import UNSTRUCTURED, find_pattern
from tamtctl.pruning.recipes import Recipe, fisher_for, opened
from tamtctl.tasks.benchmarks.table import tasks_without_training
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.measures import MEASURES, check_files
from tamtctl.tasks.registry import TASKS

# Setting → that of a fine-tuning.
_OF_FINE_TUNING = {
    "limit": "limit",
    "task_seeds": "seeds",
    "task_learning_rate": "learning_rate",
    "find_task_learning_rate": "find_learning_rate",
    "task_epochs": "epochs",
}
# Settings of the searches of a sweep.
_OF_SWEEPS = (
    "methods", "seeds", "pattern", "allocation", "budget_criterion", "budget", "prune_every",
    "at_steps", "keep_scores",
)  # fmt: skip


@configuration
class CompareConfig(CompareSettings):
    """What to compare: tickets that exist, or a sweep of methods, sparsities and seeds.

    Example:
        >>> sweep = tamtctl.CompareConfig(
        ...     sparsities=[0.5], methods=["magnitude", "random"], model="my-model",
        ...     corpus="my-text.txt", sequence_length=16, evaluation_blocks=8,
        ... )
        >>> sweep.seeds, sweep.recipe
        ((1,), 'fast')
    """

    def _check_together(self) -> None:
        """Read a recipe that is a file, and check every search of the sweep before the first."""
        if self.recipe is None:
            is_another = bool(self.sparsities) and self.model not in (None, "nano")
            self._settle("recipe", "fast" if is_another else "nano")
        if isinstance(self.recipe, str):
            self._settle("recipe", opened(self.recipe, SearchConfig))
        tables = self.recipe.by_method if isinstance(self.recipe, Recipe) else {}
        if bool(self.tickets) == bool(self.sparsities):
            raise UsageError(
                "give tickets to compare, or --sparsity 0.5,0.7,0.9 for a sweep that finds them"
            )
        for option in _OF_SWEEPS if self.tickets else ():
            if getattr(self, option) != settings_of(CompareConfig)[option].default:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} is for a sweep, with --sparsity")
        if not self.seeds and not any("seed" in values for values in tables.values()):
            self._settle("seeds", self._search_seeds(""))
        for name in self.tickets:
            if self.tickets.count(name) > 1:
                raise UsageError(f"ticket {name!r} is given twice; give it once")
        for name in ("sparsities", "methods", "seeds", "at_steps", "tasks", "task_seeds"):
            different(settings_of(CompareConfig)[name].option, getattr(self, name))
        self._check_tasks()
        for cell in self.cells():
            self.search_config(cell)
        self._check_steps()

    def cells(self, *, has_head: bool = True, has_pooling: bool = True) -> list[Cell]:
        """Return the cells of the sweep, sparsity by sparsity.

        Args:
            has_head: Whether the model has a masked-LM head.
            has_pooling: Whether it says how it makes sentence embeddings.

        Raises:
            UsageError: A method needs a head or pooling that the model lacks, or the method by
                which the budget is counted is missing.
        """
        methods = self.methods or default_methods(
            has_head=has_head,
            has_pooling=has_pooling,
            are_tuned=not all(map(self.is_without_training, self.tasks)),
        )
        if not has_head:
            self._check_head(methods, has_pooling)
        if not has_pooling:
            self._check_pooling(methods)
        if self.budget == "seconds" and self.sparsities and IMP not in methods:
            raise UsageError("--budget seconds is what imp takes; give it among the --methods")
        return [
            Cell(method, sparsity, seed)
            for sparsity in sorted(self.sparsities)
            for method in methods
            for seed in self._seeds_of(method)
        ]

    def cells_of_other_allocations(self, cells: Sequence[Cell], objective: str) -> list[Cell]:
        """Return the criteria of a sweep once more, with the allocation that it lacks.

        A sweep has either the same sparsity in every matrix, or shares that follow from a
        criterion; a criterion without training may do better with the other one. There are no
        such cells where no criterion of the sweep looks at text, or the pattern takes no
        allocation.

        Args:
            cells: The cells of the sweep.
            objective: The loss by which one of the two allocations is chosen.
        """
        criteria = [find_criterion(cell.method) for cell in cells if is_criterion(cell.method)]
        looks_at_text = any(row.needs_text for row in criteria)
        if not (looks_at_text and find_pattern(self.mask_pattern).takes_budgets):
            return []
        others = (row for row in ALLOCATIONS.values() if row.is_uniform == bool(self.among))
        other = next(others)
        by = None if other.is_uniform else fisher_for(objective)
        allocation = OtherAllocation(other.name, by, objective)
        return [
            replace(cell, allocation=allocation)
            for cell in cells
            if is_criterion(cell.method) and not find_criterion(cell.method).has_seeds
        ]

    def search_config(self, cell: Cell, timed: TimedBudget | None = None) -> SearchConfig:
        """Return the search that finds a cell.

        Args:
            cell: The cell.
            timed: The budget of mask training, if it is counted in seconds.

        Raises:
            UsageError: The recipe or a value is refused.
        """
        facts = cell.facts
        assert self.recipe is not None  # it is filled in by then
        changes: dict[str, Any] = {
            "sparsity": cell.sparsity,
            "seed": cell.seed if cell.seed is not None else 1,
            "model": self.model,
            "corpus": self.corpus or None,
            "text_column": self.text_column,
            "rows": self.rows,
            "sequence_length": self.sequence_length,
            "evaluation_blocks": self.evaluation_blocks,
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
            "pattern": self.pattern,
            "allocation": self.allocation,
            "budget_criterion": self.budget_criterion,
        }
        imp = {"method": IMP, "objective": IMP_OBJECTIVE, "prune_every": self.prune_every}
        if facts.method == IMP:
            return SearchConfig.from_recipe(self.recipe, **changes | imp)
        # The steps that imp takes do not depend on the pattern, which imp may be unable to reach.
        equal = SearchConfig.from_recipe(self.recipe, **changes | imp | {"pattern": UNSTRUCTURED})
        if facts.trains_mask:
            changes["eval_steps"] = self.at_steps or None
            changes["keep_scores"] = self.keep_scores or None
        steps = equal.steps
        if timed:
            steps, changes["max_minutes"] = timed.steps, timed.seconds / 60
        search = SearchConfig.from_recipe(
            self.recipe, method=facts.method, objective=facts.objective, steps=steps, **changes
        )
        if (other := cell.allocation) is None:
            return search
        return replace(
            search,
            allocation=other.allocation,
            budget_criterion=other.criterion,
            floor=None if other.criterion is None else search.floor,
            objective=other.objective,
        )

    def finetune_config(
        self, task: str, model: str = "nano", ticket: Path | None = None
    ) -> FinetuneConfig:
        """Return the fine-tuning of a ticket, or of the dense model, on a task.

        Args:
            task: One of `tasks`.
            model: The dense model; what is checked and read of a task does not depend on it.
            ticket: The ticket's folder; None: the dense model.

        Raises:
            UsageError: The task is refused.
        """
        asked = {name: getattr(self, own) for own, name in _OF_FINE_TUNING.items()}
        data: dict[str, Any] = {"data_dir": self.data_dir}
        if task == self.own_task:
            data = {
                "train": self.train,
                "dev": self.dev,
                "text_columns": self.task_text_columns,
                "label_column": self.label_column,
            }
        where = self.defaults()
        return FinetuneConfig(
            task=task,
            ticket=None if ticket is None else str(ticket),
            dense=ticket is None,
            model=model,
            precision=where.precision,
            device=where.device,
            threads=where.threads,
            **asked,
            **data,
        )

    @staticmethod
    def is_without_training(task: str) -> bool:
        """Return whether a task is measured without training."""
        return task in tasks_without_training()

    def evaluate_config(
        self, task: str, model: str = "nano", ticket: Path | None = None
    ) -> EvaluateConfig:
        """Return the evaluation of a ticket, or of the dense model, on a task without training.

        Args:
            task: One of `tasks` for which `is_without_training` is true.
            model: The dense model; what is read of a task does not depend on it.
            ticket: The ticket's folder; None: the dense model.
        """
        where = self.defaults()
        row = MEASURES.get(task)
        data = row.settings(self) if row else {"data_dir": self.data_dir}
        return EvaluateConfig(
            name=model if ticket is None else str(ticket),
            task=task,
            model=None if ticket is None else model,
            precision=where.precision,
            device=where.device,
            threads=where.threads,
            **data,
        )

    @property
    def own_task(self) -> str | None:
        """The name of the user's own task; None if there is none."""
        if not (self.train or self.dev):
            return None
        own = (name for name in self.tasks if not (name in TASKS or self.is_without_training(name)))
        return next(own, None)

    def defaults(self) -> SearchConfig:
        """Return a search of the recipe, for settings that the request leaves open."""
        return self.search_config(Cell(REFERENCE, (*self.sparsities, 0.5)[0], None))

    @property
    def mask_pattern(self) -> str:
        """The pattern of the sweep's masks, or of the baselines of tickets."""
        if self.tickets:
            return UNSTRUCTURED
        return self.search_config(self.cells()[0]).pattern

    @property
    def among(self) -> str:
        """The allocation of the sweep; empty if every matrix has the same sparsity."""
        if self.tickets:
            return ""
        search = self.search_config(self.cells()[0])
        return search.allocation if search.budgets_by else ""

    def notes_on_steps(self, cells: Sequence[Cell]) -> list[str]:
        """Return a note for each sparsity at which training ends before one of ``at_steps``."""
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

    def _check_tasks(self) -> None:
        """Refuse tasks that are not known, and files and settings that no task takes."""
        if (self.train or self.dev) and self.own_task is None:
            raise UsageError(
                "--train and --dev are for a task of your own: give it a name among the --tasks"
            )
        check_files(self, self.tasks, "--tasks")
        if self.find_task_learning_rate and self.task_learning_rate is not None:
            raise UsageError("give either --task-learning-rate or --find-task-learning-rate")
        trained = [name for name in self.tasks if not self.is_without_training(name)]
        for name in trained:
            if name != self.own_task:
                one_of("tasks", name, [*tasks_without_training(), *TASKS])
            self.finetune_config(name)
        if not trained:
            for name in _OF_FINE_TUNING:
                if getattr(self, name) != settings_of(CompareConfig)[name].default:
                    raise UsageError(
                        f"--{name.replace('_', '-')} is for fine-tuning; add a task that takes it "
                        "to --tasks, or leave it out"
                    )

    def _check_steps(self) -> None:
        """Refuse options of mask training without it, and steps that no training reaches."""
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
        """Return plain JSON values, for a recipe file its name and its settings."""
        told = super().to_dict()
        if isinstance(self.recipe, Recipe):
            settings = json.loads(json.dumps(asdict(self.recipe)))  # with lists, as a file has them
            told |= {"recipe": self.recipe.name, "recipe_settings": settings}
        return told

    def _search_seeds(self, method: str) -> tuple[int, ...]:
        """Return the seeds of a method's searches: those asked for, else the recipe's for it."""
        if self.seeds:
            return tuple(self.seeds)
        values = self.recipe.of_method(method) if isinstance(self.recipe, Recipe) else {}
        return (values.get("seed", settings_of(SearchConfig)["seed"].default),)

    def _seeds_of(self, method: str) -> tuple[int | None, ...]:
        if is_criterion(method):
            return find_criterion(method).seeds(self._search_seeds(method))
        return self._search_seeds(Cell(method, 0, None).facts.method)

    def _check_head(self, methods: Sequence[str], has_pooling: bool) -> None:
        wanting = [name for name in methods if Cell(name, 0, None).facts.needs_head]
        if wanting:
            *others, last = default_methods(has_head=False, has_pooling=has_pooling)
            raise UsageError(
                f"--methods {wanting[0]} needs a masked-LM head, which model {self.model!r} does "
                f"not have; give {', '.join(others)} and {last}"
            )

    def _check_pooling(self, methods: Sequence[str]) -> None:
        wanting = [name for name in methods if Cell(name, 0, None).facts.needs_embeddings]
        if wanting:
            raise UsageError(
                f"--methods {wanting[0]} needs sentence embeddings, and model {self.model!r} does "
                f"not say how it makes them (modules.json of sentence-transformers); leave it out"
            )
