"""What ``-h`` shows: one screen of what is used most; ``-h --all`` shows the rest, too.

An option that is declared ``hidden`` is left out of that screen only: it can be typed, it is
completed, and ``-h --all`` shows it. The screen has the first paragraph of each help text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from tamtctl.cli.wrapping import GAP, hanging
from tamtctl.foundations.config import OUTPUT, PANELS

ALL = "--all"
_ARGUMENTS, _OTHERS, _COMMANDS = "Arguments", "Options", "Commands"
_PLACES = (_ARGUMENTS, _OTHERS, *PANELS)

_DEFAULT = "[default: "  # as the parser writes it
_UNBROKEN = "\N{NO-BREAK SPACE}"
_UNMARKED = re.compile(r"\[(?=[a-z#/@])")  # what the parser would take for markup
_FEW = 16  # a command with no more options shows them all on the one screen
_WIDEST = 30  # characters of the first column with its margin; a longer entry gets its own line

# A line of the help: what is typed, and what it means.
_Line = tuple[str, str]


class Group(TyperGroup):
    """The commands, each with the whole of its first paragraph.

    Attributes:
        makers: Name → what makes the command. Each is made when it is asked for, since the options
            of all of them take a tenth of a second.
    """

    makers: ClassVar[dict[str, Callable[[], TyperCommand]]] = {}

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values | {"commands": _Made(self.makers)})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order in which they are shown."""
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; ``--all`` beside ``-h`` asks for the whole help."""
        return super().parse_args(ctx, _without_all(ctx, args))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, and the few options that all have."""
        commands = [(name, _first(self.commands[name].help)) for name in self.list_commands(ctx)]
        options = [one.get_help_record(ctx) or ("", "") for one in self.get_params(ctx)]
        _write(formatter, {_COMMANDS: commands, _OTHERS: options})

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write what stands at the end."""
        _write_epilog(formatter, self.epilog)


class _Made(Mapping[str, TyperCommand]):
    """Commands by name, each made once and only if it is asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], TyperCommand]]) -> None:
        self._makers = makers
        self._made: dict[str, TyperCommand] = {}

    def __getitem__(self, name: str) -> TyperCommand:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class Command(TyperCommand):
    """A command whose help is one screen, in panels; with ``--all`` it has every option."""

    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        self._rare = {one.name for one in self.params if getattr(one, "hidden", False)}
        for one in self.params:
            if isinstance(one, TyperOption):
                one.hidden = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; ``--all`` beside ``-h`` asks for the whole help."""
        return super().parse_args(ctx, _without_all(ctx, args))

    def get_help_option(self, ctx: Any) -> TyperOption | None:
        """Return ``--help``, in the panel of output options, with a hint at ``--all`` if needed."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = OUTPUT
            if len(self.params) > _FEW:
                option.help = f"Show this help; -h {ALL} shows all of it."
        return option

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what the shell proposes, with the first paragraph of each help, as plain text."""
        found = super().shell_complete(ctx, incomplete)
        for one in found:
            one.help = _UNMARKED.sub(r"\\[", _first(one.help))
        return found

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does."""
        whole = self.help
        self.help = whole if self._shows_all(ctx) else _first(whole)
        super().format_help_text(ctx, formatter)
        self.help = whole

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the panels, common options first, and how many options are left out."""
        shown: dict[str, list[_Line]] = {place: [] for place in _PLACES}
        asked = sorted(self.get_params(ctx), key=lambda one: one.name in self._rare)
        shows_all = self._shows_all(ctx)
        left_out = set() if shows_all else self._rare
        for one in asked:
            if one.name in left_out:
                continue
            told: Any = copy(one)  # a copy, as its help is cut below
            told.help = told.help if shows_all else _first(told.help)
            typed, means = told.get_help_record(ctx) or ("", "")
            means = " ".join(means.split()).replace(_DEFAULT, _DEFAULT.replace(" ", _UNBROKEN))
            if isinstance(one, TyperOption):
                shown[one.rich_help_panel or _OTHERS].append((typed, means))
            else:
                shown[_ARGUMENTS].append((" ".join(one.get_usage_pieces(ctx)), means))
        _write(formatter, shown)
        if left_out:
            formatter.write(f"\n{len(left_out)} more options: {ctx.command_path} -h {ALL}\n")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write what stands at the end."""
        _write_epilog(formatter, self.epilog)

    def _shows_all(self, ctx: Any) -> bool:
        return bool(ctx.meta.get(ALL)) or len(self.params) <= _FEW


def _without_all(ctx: Any, args: list[str]) -> list[str]:
    """Return the arguments without ``--all`` if they ask for help, and note it in the context.

    The parser shows the help as soon as it meets ``-h``, before it would come to ``--all``.
    """
    if not any(name in args for name in ctx.help_option_names):
        return args
    if ALL in args:
        ctx.meta[ALL] = True
    return [one for one in args if one != ALL]


def _first(text: str | None) -> str:
    """Return the first paragraph of a text, as one line."""
    return " ".join((text or "").partition("\n\n")[0].split())


def _write(formatter: Any, panels: Mapping[str, Sequence[_Line]]) -> None:
    """Write headings, and below each what is typed and what it means, in two columns."""
    every = [line for lines in panels.values() for line in lines]
    indent = _indent(every)
    for heading, lines in panels.items():
        if not lines:
            continue
        formatter.write(f"\n{typer.style(heading, bold=True)}\n")
        for typed, means in lines:
            label = GAP + typed
            if len(label) + len(GAP) > indent:
                formatter.write(typer.style(label, bold=True) + "\n")
                label = ""
            first, *rest = hanging(label, means, indent, formatter.width)
            first = typer.style(label, bold=True) + first[len(label) :]
            text = "".join(f"{line}\n" for line in (first, *rest))
            formatter.write(text.replace(_UNBROKEN, " "))


def _indent(lines: Iterable[_Line]) -> int:
    """Return where the second column begins, alike in all panels."""
    widths = (len(GAP + typed + GAP) for typed, _ in lines)
    return max((width for width in widths if width <= _WIDEST), default=_WIDEST)


def _write_epilog(formatter: Any, epilog: str | None) -> None:
    """Write the lines unwrapped, so that a command in them can be copied."""
    if epilog:
        formatter.write(f"\n{epilog}\n")
