"""The default rate and epochs of fine-tuning, from the model's width and the number of examples.

A smaller model needs larger steps: the peak rate falls with the square of the width (the hidden
size). Fewer examples are seen more often, as a new head takes a number of steps to learn.
``tickets/README.md`` has the measurements behind the constants, all of them on held-out parts of
training sets.

Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from tamtctl.tasks.task import Task

TASK_RECIPES = ("auto", "paper")

# The peak rate at this width, and the limits of the rate.
WIDTH, RATE = 128, 1.5e-3
LEAST_RATE, LARGEST_RATE = 1e-5, 2e-3
LEAST_STEPS, MOST_EPOCHS = 400, 20
WARM_UP = 0.1


@dataclass(frozen=True)
class TaskSchedule:
    """How fast and how long a model is fine-tuned.

    Attributes:
        learning_rate: Peak rate.
        epochs: Passes over the training set.
        batch_size: Examples per optimiser step.
        warm_up: Share of the steps in which the rate rises to its peak.
        has_standard_labels: Whether labels are trained on with mean 0 and deviation 1
            (``regression``).
        origin: Where the values are from, in a few words.
    """

    learning_rate: float
    epochs: int
    batch_size: int
    warm_up: float
    has_standard_labels: bool
    origin: str

    @property
    def identity(self) -> dict[str, str]:
        """The values as part of a run's identity, whatever their origin."""
        values = {name: value for name, value in asdict(self).items() if name != "origin"}
        return {"rate and length of the training": json.dumps(values, sort_keys=True)}

    def warm_up_steps(self, steps: int) -> int:
        """Return how many of a run's ``steps`` raise the rate."""
        return int(self.warm_up * steps)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The values that were asked for; None leaves one to the recipe.

    Attributes:
        recipe: One of `TASK_RECIPES`.
        learning_rate: Peak rate.
        epochs: Passes over the training set.
        batch_size: Examples per optimiser step.
        limit: Examples that the training set was cut to; None: it was not cut.
    """

    recipe: str = "auto"
    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    limit: int | None = None


def schedule_for(task: Task, width: int, examples: int, wishes: Wishes) -> TaskSchedule:
    """Return the values to train with: those asked for, and the recipe's for the others.

    Args:
        task: The task, with the paper's values.
        width: The model's hidden size.
        examples: How many examples are trained on.
        wishes: The values that were asked for.
    """
    is_paper = wishes.recipe == "paper"
    batch_size = wishes.batch_size or task.batch_size
    usual_rate = task.learning_rate if is_paper else rate_for(width)
    usual_epochs = (
        task.epochs_for(wishes.limit) if is_paper else epochs_for(task, examples, batch_size)
    )
    return TaskSchedule(
        learning_rate=wishes.learning_rate or usual_rate,
        epochs=wishes.epochs or usual_epochs,
        batch_size=batch_size,
        warm_up=0.0 if is_paper else WARM_UP,
        has_standard_labels=not is_paper,
        origin=_origin(width, examples, wishes),
    )


def rate_for(width: int) -> float:
    """Return the peak rate of a model of this hidden size, to two digits."""
    rate = RATE * (WIDTH / width) ** 2
    return float(f"{min(max(rate, LEAST_RATE), LARGEST_RATE):.2g}")


def epochs_for(task: Task, examples: int, batch_size: int) -> int:
    """Return the number of epochs: that of the task, or more if there are few examples."""
    enough = math.ceil(LEAST_STEPS / math.ceil(examples / batch_size))
    return max(task.epochs, min(enough, MOST_EPOCHS))


def _origin(width: int, examples: int, wishes: Wishes) -> str:
    given = [
        name
        for name in ("learning_rate", "epochs", "batch_size")
        if getattr(wishes, name) is not None
    ]
    asked = " and ".join(name.replace("_", " ") for name in given)
    if wishes.recipe == "paper":
        usual = "the paper's"
    else:
        usual = f"for a width of {width:,} and {examples:,} examples"
    if not given:
        return usual
    return f"{asked} as asked for" + ("" if len(given) == 3 else f", else {usual}")
