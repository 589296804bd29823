"""The options that commands share, and how a setting of a configuration becomes an option."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any

import typer

from tamtctl.cli.completion import completer
from tamtctl.foundations.config import OUTPUT, PANELS, RUN, Setting, Typed, settings_of
from tamtctl.foundations.errors import UsageError
from tamtctl.pruning.config import SearchConfig

TokenOption = Annotated[
    str | None,
    typer.Option(help="Hub token; by default that of hf auth login, or HF_TOKEN."),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="How to store the masks: bits, zstd, or delta (needs the base model)."),
]
BaseModelOption = Annotated[
    str | None,
    typer.Option(help=settings_of(SearchConfig)["base_model"].help),
]
OutputDirOption = Annotated[
    Path | None,
    typer.Option(help="The run's folder; by default one under runs/.", rich_help_panel=OUTPUT),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Redo a finished run.", rich_help_panel=OUTPUT)
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be done, and stop.", rich_help_panel=RUN),
]

BY_NAME = inspect.Parameter.KEYWORD_ONLY  # Typer calls a command with names alone


def parameter_of(one: Setting, by_recipes: Collection[str] | None) -> inspect.Parameter:
    """Return a setting as the parameter of a function from which Typer makes an option.

    Args:
        one: The setting.
        by_recipes: Names of the settings that recipes give; None: there is no recipe.
    """
    typed = one.facts.typed or Typed()
    type_: Any = one.kind.type_of_one
    if one.kind.is_several:
        type_ = str if typed.between_commas else list[type_]
    default = _shown_default(one, has_recipe=by_recipes is not None)
    if typed.is_argument:
        is_needed = one.default is MISSING and not typed.may_be_missing
        default = inspect.Parameter.empty if is_needed else None
        info = typer.Argument(help=one.help, metavar=typed.metavar, autocompletion=completer(one))
    else:
        dashed = f"--{one.option}"
        if type_ is bool and (typed.can_be_denied or one.default is True):
            dashed += f"/--no-{one.option}"
        info = typer.Option(
            dashed,
            help=one.help if by_recipes is None else _with_default(one, by_recipes),
            metavar=typed.metavar or _typed_as(one),
            min=typed.least,
            rich_help_panel=one.facts.panel,
            hidden=not one.facts.is_common,
            autocompletion=completer(one),
        )
    told: Any = Annotated[type_ if default is inspect.Parameter.empty else type_ | None, info]
    return inspect.Parameter(one.name, BY_NAME, default=default, annotation=told)


def _shown_default(one: Setting, *, has_recipe: bool) -> Any:
    typed = one.facts.typed or Typed()
    if one.default is MISSING or has_recipe:
        return False if one.kind.one == "bool" and not typed.can_be_denied else None
    if one.kind.is_several:
        is_shown = typed.between_commas and one.default
        return ",".join(map(str, one.default)) if is_shown else None
    return one.default


def _typed_as(one: Setting) -> str:
    """Return the placeholder of the value in the help; dots say that several may be given."""
    typed = one.facts.typed or Typed()
    several = (",..." if typed.between_commas else "...") if one.kind.is_several else ""
    return f"<{one.kind.type_of_one.__name__}>{several}"


def _with_default(one: Setting, by_recipes: Collection[str]) -> str:
    """Return the help of a setting with its default, or a mark that a recipe gives it."""
    first, gap, rest = one.help.partition("\n\n")
    if one.name in by_recipes:
        first += "  [by recipe]"
    elif one.default is MISSING:
        first += "  [required]"
    elif one.default and one.default is not True:
        first += f"  [default: {one.default}]"
    return first + gap + rest


def as_setting(one: Setting, value: Any) -> Any:
    """Return what was typed as a value of the setting's type.

    Raises:
        UsageError: Numbers between commas are expected, and a part is none.
    """
    if not one.kind.is_several:
        return value
    if not (one.facts.typed and one.facts.typed.between_commas):
        return tuple(value)
    try:
        return tuple(one.kind.type_of_one(part.strip()) for part in value.split(","))
    except ValueError as error:
        raise UsageError(f"--{one.option} must be numbers between commas, got {value!r}") from error


def panel_place(parameter: inspect.Parameter) -> int:
    """Return the position of a parameter's panel in the help, -1 without a panel."""
    told = getattr(parameter.annotation, "__metadata__", ())
    panel = next((info.rich_help_panel for info in told), None)
    return PANELS.index(panel) if panel in PANELS else -1
