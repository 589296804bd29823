"""Settings, each declared once: a field has its name, type, default, help, panel and check.

A configuration is a frozen dataclass of such fields. Everything else is derived from them: the
options of the command line, the keys of recipe files, the text of ``help(…)``, the hash in the name
of a run's folder.
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

# The headings in a command's help, in order.
PANELS = ("Data", "Method", "Training", "Run", "Output")
DATA, METHOD, TRAINING, RUN, OUTPUT = PANELS

NEVER: Any = object()  # for `Facts.before`: the setting is never left out
# The setting has no default, but every recipe has a value. To type checkers it looks like a
# default.
FROM_RECIPE: Any = MISSING

Names = Iterable[str] | Callable[[], Iterable[str]]

_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True, kw_only=True)
class Typed:
    """How a setting is typed in a shell, as far as its name and type do not say it.

    Attributes:
        name: The option's name, without dashes; None: the setting's name.
        is_argument: Whether it is a positional argument.
        may_be_missing: Whether an argument without a default may be left out, which the command
            handles.
        between_commas: Whether several values are typed as ``1,2,3``; else the option is repeated.
        can_be_denied: Whether there is a ``--no-…`` option, too.
        least: Smallest number that the parser accepts; None: any.
        metavar: Placeholder of the value in the help.
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
    """Facts that a field declares about its setting, besides name, type and default.

    Attributes:
        help: What the setting is, in a sentence or two. ``{choices}`` is replaced by the names of
            ``choices`` without sums such as ``a+b``, ``{summaries}`` by each name with the
            ``summary`` of its row. ``-h`` shows only the first paragraph.
        panel: Its heading in a command's help, one of `PANELS`.
        more: Further text that only ``help(…)`` shows.
        is_common: Whether ``-h`` shows it; ``-h --all`` shows all settings.
        check: Check that a value must pass, unless it is None.
        choices: The allowed names; a table or function is evaluated whenever they are needed.
        is_open: Whether values other than ``choices`` are allowed, too.
        proposed: Further names that a shell completes, such as those of local tickets.
        completed: Names that a shell completes instead of ``choices``, if some of these are
            patterns such as ``n:m``.
        typed: How it is typed; None: it can be set only in the library and in recipe files.
        names_run: Whether another value is another run; else `Config.to_dict` leaves it out.
        before: The value that the code used before the setting existed. At this value
            `Config.to_dict` leaves the setting out, so that older runs keep their names. It stays
            even if the default changes. `NEVER`: the setting is never left out.
        none_is: The value that stands for None in `Config.to_dict`.
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
    """A setting of a configuration.

    Attributes:
        name: The field's name.
        kind: Its declared type.
        default: Its default; `dataclasses.MISSING`: a value must be given.
        facts: The other facts that its field declares.
    """

    name: str
    kind: SettingType
    default: Any
    facts: Facts

    @property
    def said(self) -> str:
        """Its name in messages, without dashes in front."""
        return self.name.replace("_", "-")

    @property
    def option(self) -> str:
        """Its name in a shell, without dashes in front."""
        return (self.facts.typed and self.facts.typed.name) or self.said

    @property
    def parameter(self) -> str:
        """The option's name as a Python parameter, which the library accepts, too."""
        return self.option.replace("-", "_")

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed names, as they are now."""
        choices = self.facts.choices
        return tuple(choices() if callable(choices) else choices)

    @property
    def help(self) -> str:
        """The help text, with the allowed names as they are now."""
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
        """Return a value converted to the declared type.

        Raises:
            UsageError: The value has another type; the message names the setting.
        """
        return self.kind.settled(self.name, value)

    def check(self, value: Any) -> None:
        """Check a value of the declared type.

        Raises:
            UsageError: The value is out of range or unknown; the message names the setting.
        """
        if value is None:
            return
        if self.facts.choices and not self.facts.is_open:
            for name in value if self.kind.is_several else (value,):
                one_of(self.said, name, self.names)
        if self.facts.check is not None:
            self.facts.check(self.said, value)

    def is_as_before(self, value: Any) -> bool:
        """Whether a value is the one that the code used before the setting existed."""
        return self.facts.before is not NEVER and bool(value == self.facts.before)


def setting(*, default: Any = MISSING, **facts: Any) -> Any:
    """Return a field of a configuration; ``facts`` are the attributes of `Facts`."""
    told = Facts(**facts)
    return field(default=default, metadata={Facts: told})


_KNOWN: dict[type, Mapping[str, Setting]] = {}


def settings_of(kind: type[Config]) -> Mapping[str, Setting]:
    """Return name → setting of a configuration class, in the order of its fields."""
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
        told_by: Words of the message before the name.

    Raises:
        UsageError: There is no such setting; the message suggests the nearest.
    """
    settings = settings_of(kind)
    if name not in settings:
        raise UsageError(f"{told_by} {name!r}{did_you_mean(name, settings)}")
    return settings[name]


class _Reference:
    """The documentation of a configuration class: its own docstring, and every setting."""

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
    # A descriptor, so that allowed names are those known when the documentation is read.
    kind.__doc__ = _Reference(kind.__doc__ or "")  # type: ignore[assignment]
    return kind


def _take_options(kind: type) -> None:
    """Let the constructor accept a setting by its option's name, too, if that differs."""
    by_fields = vars(kind)["__init__"]

    @functools.wraps(by_fields)
    def made(self: Config, **values: Any) -> None:
        for one in settings_of(type(self)).values():
            if one.parameter != one.name and one.parameter in values:
                if one.name in values:
                    raise UsageError(f"{one.name} and {one.parameter} are one setting; give one")
                values[one.name] = values.pop(one.parameter)
        for name in values:
            find_setting(type(self), name, f"{type(self).__name__} has no setting")
        by_fields(self, **values)

    kind.__init__ = made  # type: ignore[misc]


def show_settings(kind: type[Config], method: str) -> None:
    """Make ``help(…)`` of a class method show the settings that it takes as ``**changes``.

    Args:
        kind: The configuration that has the method.
        method: Name of the method. In its signature every setting is None by default.
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
    """A set of settings, converted to their types and checked when it is made."""

    def __post_init__(self) -> None:
        """Convert every value to its type, and check it.

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
        """Check that the values go together, and fill in values that follow from others."""

    def filled_in(self, **values: Any) -> Self:
        """Return a copy with the given values filled in for settings that were left open.

        Each value is checked by itself; whether settings go together is not checked again.

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
        """Return the settings that determine the result, as plain JSON values."""
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
        """Return name → value, with values converted to the types of their settings.

        Raises:
            UsageError: There is no such setting, or a value is of another type.
        """
        told_by = f"{cls.__name__} has no setting"
        return {name: find_setting(cls, name, told_by).settled(changes[name]) for name in changes}
