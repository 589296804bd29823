"""The full name of a pattern whose number is the model's, such as that of attention heads."""

from __future__ import annotations

from tamtctl.foundations.errors import UsageError
from tamtctl.models.loading import load_config
from tamtctl.pruning.patterns.families import find_pattern


def pattern_of_model(name: str, model: str) -> str:
    """Return the name of a pattern, completed by the model's number if the pattern has one.

    Args:
        name: The pattern as the user named it.
        model: Folder or Hub id of the model that is pruned, or ``nano``.

    Raises:
        UsageError: The model has another number, or none.
        ModelError: The model's configuration cannot be read.
    """
    row = find_pattern(name)
    if row.of_model is None:
        return name
    number = getattr(load_config(model), row.of_model, None)
    if type(number) is not int or number < 1:
        raise UsageError(
            f"--pattern {name} is not for this model, whose configuration has no {row.of_model}"
        )
    if row.numbers and row.numbers != (number,):
        raise UsageError(
            f"--pattern {name} is not for this model, whose configuration says {row.of_model} "
            f"{number}"
        )
    return name if row.numbers else f"{name}:{number}"
