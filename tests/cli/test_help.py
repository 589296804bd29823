"""The help of every command: one screen of what is used most, and all of it for who asks."""

from __future__ import annotations

import re
from typing import Any

import pytest
from command_line import Run
from typer.main import get_command

from tamtctl.cli.app import app
from tamtctl.foundations.config import PANELS, settings_of
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.recipes import RECIPES

SCREEN = 50  # lines
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def _told(text: str | None) -> str:
    return " ".join((text or "").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_fits_on_one_screen(command: str, run: Run) -> None:
    shown = run(command, "-h").out
    lines = shown.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    more = re.search(r"^(\d+) more options: (.+) -h --all$", shown, re.MULTILINE)
    options = {opt for one in COMMANDS[command].params for opt in one.opts if opt.startswith("--")}
    shown_options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", shown, re.MULTILINE)) - {"--help"}
    assert shown_options <= options
    assert len(options - shown_options) == (int(more[1]) if more else 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_all_of_the_help_shows_every_option_whole(command: str, run: Run) -> None:
    done = run(command, "-h", "--all")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    words = _told(done.out)
    assert _told(COMMANDS[command].help) in words
    for parameter in COMMANDS[command].params:
        assert parameter.opts[-1] in done.out or parameter.metavar in done.out
        told = _told(parameter.help)
        assert told, parameter.opts
        assert not told.startswith("Of ")
        assert told in words, "no word is broken, and nothing taken for markup"


@pytest.mark.parametrize("asked", ["search --all -h", "search --help --all", "--all search -h"])
def test_all_may_be_asked_for_in_any_place(asked: str, run: Run) -> None:
    assert run(*asked.split()).out == run("search", "-h", "--all").out


def test_all_is_no_option_of_its_own(run: Run) -> None:
    done = run("search", "--all")
    assert done.code == 2
    assert done.err == "error: No such option: --all\n"


def test_the_settings_of_a_search_stand_in_panels_what_is_common_first(run: Run) -> None:
    lines = run("search", "-h", "--all").out.splitlines()
    places = [lines.index(panel) for panel in PANELS]
    assert places == sorted(places)
    assert "Options" not in lines
    for panel, start, end in zip(PANELS, places, [*places[1:], len(lines)], strict=True):
        told = re.findall(r"^  --([\w-]+)", "\n".join(lines[start:end]), re.MULTILINE)
        facts = {s.option: s.facts for s in settings_of(SearchConfig).values()}
        assert {facts[name].panel for name in told if name in facts} == {panel}
        common = [facts[name].is_common for name in told if name in facts]
        assert common == sorted(common, reverse=True)


def test_a_default_that_a_recipe_gives_is_said_to_be_the_recipes(run: Run) -> None:
    words = _told(run("search", "-h", "--all").out)
    for name, one in settings_of(SearchConfig).items():
        if one.facts.typed is None:
            continue
        told = re.search(rf"--{one.option} <.+?(?= --[\w-]+ <|$)", words)
        given = {
            str(recipe({"method": "tamt", "objective": "mlm", "sparsity": s}).get(name))
            for recipe in RECIPES.values()
            for s in (0.5, 0.9)
        }
        if len(given) > 1:  # not the same by all of them
            assert told, name
            assert "[by recipe]" in told[0], name
    assert "--sparsity <float> Share of zeros, in [0, 1)." in words
    assert "--method <str> How the mask is found" in words
    assert "[default: tamt]" in words


def test_every_command_says_what_it_does_in_the_help_of_all(run: Run) -> None:
    shown = run("-h").out
    assert len(shown.splitlines()) <= SCREEN
    for name, command in COMMANDS.items():
        assert f"  {name} " in shown
        assert _told(command.help.partition("\n\n")[0]) in _told(shown)
        assert command.epilog.startswith(f"Example:\n  tamtctl {name}")
