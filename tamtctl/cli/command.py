"""What makes a command of a function: where it prints, and the settings that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from tamtctl.cli.options import BY_NAME, as_setting, panel_place, parameter_of
from tamtctl.foundations.config import OUTPUT, Config, Setting, settings_of
from tamtctl.pruning.recipes import recipe_settings

# Name of a setting → value, of the options that were typed. The others are not in it, so that a
# recipe's value counts where Typer would give an option its default.
Given = dict[str, Any]

_JSON = typer.Option(
    "--json", help="One JSON object on stdout, all else on stderr.", rich_help_panel=OUTPUT
)
_QUIET = typer.Option(
    "-q", "--quiet", help="Print only the essential line.", rich_help_panel=OUTPUT
)
# The boundary of errors looks for it among the arguments: parsing, too, may fail.
_DEBUG = typer.Option(
    "--debug", help="Show the traceback of an error.", rich_help_panel=OUTPUT, hidden=True
)


class ShellCommand:
    """A function as the parser sees it, with an option for all that the command line can say.

    Typer makes the options from a signature, which this class computes anew for every command
    line: a row that has been registered in between is shown, too.

    Args:
        function: It gets ``output``, the `tamtctl.cli.console.Output` to print to, the settings
            that were typed as ``given``, and its own options.
        kind: The configuration that has these settings; None: it takes no ``given``.
        has_recipe: Whether a recipe gives values for what was not typed: the help then marks the
            settings that recipes give, and names the defaults of the others.
    """

    def __init__(
        self, function: Callable[..., None], kind: type[Config] | None, *, has_recipe: bool
    ) -> None:
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.__annotations__: dict[str, Any] = {}  # Typer finds the types in the signature
        self._function, self._kind, self._has_recipe = function, kind, has_recipe

    @property
    def __signature__(self) -> inspect.Signature:
        # The screen is loaded when a command runs, not for its help.
        own = inspect.signature(self._function, eval_str=True, locals={"Output": Any}).parameters
        by_recipes = recipe_settings() if self._has_recipe else None
        made = [parameter_of(one, by_recipes) for one in self._settings()]
        # The settings take the place of the parameter that gets them.
        asked = [
            part
            for one in own.values()
            if one.name != "output"
            for part in (made if one.name == "given" else [one])
        ]
        asked += [_switch("as_json", _JSON), _switch("quiet", _QUIET), _switch("debug", _DEBUG)]
        asked.sort(key=panel_place)  # stable: within a panel, the order stays
        context = inspect.Parameter("context", BY_NAME, annotation=typer.Context)
        return inspect.Signature([context, *(one.replace(kind=BY_NAME) for one in asked)])

    def __call__(
        self, *, context: typer.Context, as_json: bool, quiet: bool, debug: bool, **values: Any
    ) -> None:
        """Run the command with what was typed."""
        from tamtctl.cli.console import Output

        if self._kind is not None:
            values["given"] = self._given(context, values)
        self._function(output=Output(as_json=as_json, quiet=quiet), **values)

    def _given(self, context: typer.Context, values: dict[str, Any]) -> Given:
        """Take the settings out of the values, and return those that were typed."""
        given = {}
        for one in self._settings():
            value, source = values.pop(one.name), context.get_parameter_source(one.name)
            if source is not None and source.name != "DEFAULT":
                given[one.name] = as_setting(one, value)
        return given

    def _settings(self) -> Iterator[Setting]:
        settings = settings_of(self._kind).values() if self._kind else ()
        return (one for one in settings if one.facts.typed)


def command(
    kind: type[Config] | None = None, *, has_recipe: bool = False
) -> Callable[[Callable[..., None]], ShellCommand]:
    """Return a decorator that makes a `ShellCommand` of a function."""
    return lambda function: ShellCommand(function, kind, has_recipe=has_recipe)


def _switch(name: str, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, BY_NAME, default=False, annotation=Annotated[bool, option])
