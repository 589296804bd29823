"""A setting, declared once: name, type, default, help, panel and check stand in one field.

A configuration is a frozen dataclass of such fields. All else is made from them: the options of the
command line, what a recipe file may hold, what ``help(…)`` says, what names a run's folder.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self, TypeVar, dataclass_transform

from tamtctl.foundations.checks import Check, did_you_mean, one_of
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.setting_types import SettingType

# The parts of a command's help, in the order in which they are shown.
PANELS = ("Data", "Method", "Training", "Run", "Output")
DATA, METHOD, TRAINING, RUN, OUTPUT = PANELS

NEVER: Any = object()  # no value at which a setting is left out
# No default, but a recipe has a value. A type checker, which cannot know, takes it for a default.
FROM_RECIPE: Any = MISSING

Names = Iterable[str] | Callable[[], Iterable[str]]

_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True, kw_only=True)
class Typed:
    """How a setting is typed in a shell, where that does not follow from its name and its type.

    Attributes:
        name: The option's name, without its dashes, if it is not the setting's.
        is_argument: It is typed without a name.
        may_be_missing: An argument without a default may be left out: the command sees to it.
        between_commas: Several values are one text, ``1,2,3``; else the option is given repeatedly.
        can_be_denied: There is a ``--no-…`` as well.
        least: The parser itself refuses a smaller number.
        metavar: What stands for the value in the help.
    """

    name: str | None = None
    is_argument: bool = False
    may_be_missing: bool = False
    between_commas: bool = False
    can_be_denied: bool = False
    least: int | None = None
    metavar: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a field says of its setting besides name, type and default.

    Attributes:
        help: What the setting is, in a sentence or two. ``{choices}`` stands for the names of
            ``choices`` that are no sums of others, ``{summaries}`` for each with the ``summary`` of
            its row. Only the first paragraph stands on the one screen of ``-h``.
        panel: The part of a command's help in which it stands, one of `PANELS`.
        more: What only a reader of ``help(…)`` wants to know besides.
        is_common: It is one of the few that ``-h`` shows at once; ``-h --all`` shows the others.
        check: What its value must pass, unless that is None.
        choices: The names that it may have; a table or function is asked whenever they are needed.
        is_open: Other values than the ``choices`` are good, too.
        proposed: Further names that a shell completes, such as those of the tickets at hand.
        completed: What a shell completes instead of the ``choices``, where some of these only say
            what names look like.
        typed: How it is typed; None: only the library and recipe files can give it.
        names_run: Whether another value makes another run; else it is left out of `Config.to_dict`.
        before: The value that the code had before there was the setting, which is left out of
            `Config.to_dict` at this value alone: so a run made by that code keeps its name. Never
            the default, which may change. `NEVER`: it is always told.
        none_is: What stands in `Config.to_dict` for None.
    """

    help: str
    panel: str
    more: str = ""
    is_common: bool = False
    check: Check | None = None
    choices: Names = ()
    is_open: bool = False
    proposed: Names = ()
    completed: Names = ()
    typed: Typed | None = Typed()
    names_run: bool = True
    before: Any = NEVER
    none_is: Any = None


@dataclass(frozen=True)
class Setting:
    """All that is known of a setting.

    Attributes:
        name: The field's name.
        kind: The type that it declares.
        default: Its value if none is given; `dataclasses.MISSING`: one must be given.
        facts: What its field says of it.
    """

    name: str
    kind: SettingType
    default: Any
    facts: Facts

    @property
    def said(self) -> str:
        """What a message calls it, without dashes in front."""
        return self.name.replace("_", "-")

    @property
    def option(self) -> str:
        """What it is called in a shell, without dashes in front."""
        return (self.facts.typed and self.facts.typed.name) or self.said

    @property
    def parameter(self) -> str:
        """The option's name as a parameter in Python, which the library takes, too."""
        return self.option.replace("-", "_")

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it may have, as they are known now."""
        choices = self.facts.choices
        return tuple(choices() if callable(choices) else choices)

    @property
    def help(self) -> str:
        """What it is, with the names that are known now."""
        simple = (name for name in self.names if "+" not in name)
        text = self.facts.help.replace("{choices}", ", ".join(simple))
        if "{summaries}" in text:
            choices = self.facts.choices
            rows = choices() if callable(choices) else choices
            assert isinstance(rows, Mapping)
            each = (f"{name} ({row.summary})" for name, row in rows.items())
            text = text.replace("{summaries}", "; ".join(each))
        return text

    def settled(self, value: Any) -> Any:
        """Return a value as the declared type.

        Raises:
            UsageError: It is of another type; the message names the setting.
        """
        return self.kind.settled(self.name, value)

    def check(self, value: Any) -> None:
        """Check a value of the declared type.

        Raises:
            UsageError: It is out of range or unknown; the message names the setting.
        """
        if value is None:
            return
        if self.facts.choices and not self.facts.is_open:
            for name in value if self.kind.is_several else (value,):
                one_of(self.said, name, self.names)
        if self.facts.check is not None:
            self.facts.check(self.said, value)

    def is_as_before(self, value: Any) -> bool:
        """Whether a value is what the code did before there was the setting."""
        return self.facts.before is not NEVER and bool(value == self.facts.before)


def setting(*, default: Any = MISSING, **facts: Any) -> Any:
    """Return a field of a configuration; the ``facts`` are those of `Facts`."""
    told = Facts(**facts)
    return field(default=default, metadata={Facts: told})


_KNOWN: dict[type, Mapping[str, Setting]] = {}


def settings_of(kind: type[Config]) -> Mapping[str, Setting]:
    """Return name → setting of a configuration, in the order of its fields."""
    if kind not in _KNOWN:
        found = {}
        for one in fields(kind):
            if Facts not in one.metadata:
                raise TypeError(f"{kind.__name__}.{one.name} is declared without setting(…)")
            facts = one.metadata[Facts]
            found[one.name] = Setting(one.name, SettingType.of(one.type), one.default, facts)
        _KNOWN[kind] = found
    return _KNOWN[kind]


def find_setting(kind: type[Config], name: str, told_by: str) -> Setting:
    """Return a setting by its name.

    Args:
        kind: The configuration.
        name: The setting's name.
        told_by: What the message says before it.

    Raises:
        UsageError: There is no such setting; the message suggests the nearest.
    """
    settings = settings_of(kind)
    if name not in settings:
        raise UsageError(f"{told_by} {name!r}{did_you_mean(name, settings)}")
    return settings[name]


class _Reference:
    """What ``help(…)`` shows of a configuration: what its class says, and every setting."""

    def __init__(self, beginning: str) -> None:
        self.beginning = inspect.cleandoc(beginning)

    def __get__(self, config: object, kind: type[Config]) -> str:
        lines = [self.beginning, "", "Attributes:"]
        for one in settings_of(kind).values():
            also = "" if one.parameter == one.name else f"Also taken as ``{one.parameter}``."
            text = " ".join(f"{one.name}: {one.help} {one.facts.more} {also}".split())
            lines += textwrap.wrap(
                text, 96, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False
            )
        return "\n".join(lines) + "\n"


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def configuration(kind: _Class) -> _Class:
    """Make a class of settings a frozen dataclass whose documentation lists them."""
    dataclass(frozen=True, kw_only=True)(kind)
    _take_options(kind)
    # A descriptor: the names that a setting may have are those that are known when it is asked for.
    kind.__doc__ = _Reference(kind.__doc__ or "")  # type: ignore[assignment]
    return kind


def _take_options(kind: type) -> None:
    """Let the constructor take a setting by the name of its option, where that is another one."""
    by_fields = vars(kind)["__init__"]

    @functools.wraps(by_fields)
    def made(self: Config, **values: Any) -> None:
        for one in settings_of(type(self)).values():
            if one.parameter != one.name and one.parameter in values:
                if one.name in values:
                    raise UsageError(f"{one.name} and {one.parameter} are one setting; give one")
                values[one.name] = values.pop(one.parameter)
        by_fields(self, **values)

    kind.__init__ = made  # type: ignore[misc]


def show_settings(kind: type[Config], method: str) -> None:
    """Let ``help(…)`` of a class method show the settings that it takes as ``**changes``.

    Args:
        kind: The configuration that has the method.
        method: Its name. Every setting may be None there, and is by default.
    """
    function = vars(kind)[method].__func__
    own = inspect.signature(function)
    named = [one for one in own.parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    settings = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=f"{str(one.type).removesuffix(' | None')} | None",
        )
        for one in fields(kind)
    ]
    function.__signature__ = own.replace(
        parameters=[*named, *settings], return_annotation=kind.__name__
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings that are given their types and checked when they are made."""

    def __post_init__(self) -> None:
        """Give every value its type, and check it.

        Raises:
            UsageError: A value is out of range or unknown; the message names the option.
        """
        settings = settings_of(type(self))
        for name, one in settings.items():
            self._settle(name, one.settled(getattr(self, name)))
        for name, one in settings.items():
            one.check(getattr(self, name))
        self._check_together()

    def _check_together(self) -> None:
        """Check what the values must be to each other, and settle what follows from them."""

    def filled_in(self, **values: Any) -> Self:
        """Return a copy in which settings that were left open have the values that they come to.

        Each is checked by itself; what settings must be to each other is not checked again.

        Args:
            **values: Name of a setting → its value.

        Raises:
            UsageError: A value is refused.
        """
        filled, settings = copy(self), settings_of(type(self))
        for name, value in values.items():
            filled._settle(name, settings[name].settled(value))
            settings[name].check(getattr(filled, name))
        return filled

    def _settle(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return what determines the result as plain JSON values."""
        told = {}
        for name, one in settings_of(type(self)).items():
            value = getattr(self, name)
            value = one.facts.none_is if value is None else value
            if one.facts.names_run and not one.is_as_before(value):
                told[name] = list(value) if isinstance(value, tuple) else value
        return told

    @property
    def hash(self) -> str:
        """Eight hex digits that name this configuration's folder."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @classmethod
    def settled(cls, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for some settings as the types that they declare.

        Raises:
            UsageError: There is no such setting, or a value is of another type.
        """
        told_by = f"{cls.__name__} has no setting"
        return {name: find_setting(cls, name, told_by).settled(changes[name]) for name in changes}
