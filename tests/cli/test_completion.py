"""What Tab proposes, asked for as bash asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from tamtctl.cli.app import app
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.methods import methods
from tamtctl.pruning.objectives import objectives
from tamtctl.pruning.patterns import PATTERNS, UNSTRUCTURED, find_pattern
from tamtctl.pruning.recipes import RECIPES
from tamtctl.tasks.registry import TASKS
from tamtctl.ticket.local_names import packaged_tickets

Tab = Callable[[str], list[str]]


def _asked(line: str) -> dict[str, str]:
    """Return the environment in which bash runs a command to complete the last word of a line."""
    return {
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "_TAMTCTL_COMPLETE": "complete_bash",
    }


@pytest.fixture
def tab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], working_folder: None
) -> Tab:
    """A function that returns what is proposed for the last word of a line."""
    command = get_command(app)

    def tab(line: str) -> list[str]:
        for name, value in _asked(line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            command.main([], prog_name="tamtctl", standalone_mode=False)
        return capsys.readouterr().out.split()

    return tab


def test_names_of_every_shelf_are_completed(tab: Tab) -> None:
    assert tab("tamtctl search --method ") == list(methods())
    assert tab("tamtctl search --objective m") == [n for n in objectives() if n.startswith("m")]
    assert tab("tamtctl search --allocation ") == list(ALLOCATIONS)
    assert tab("tamtctl search --recipe ") == tab("tamtctl compare --recipe ") == list(RECIPES)
    assert tab("tamtctl finetune ") == list(TASKS)


@pytest.mark.parametrize("command", ["search", "compare"])
def test_every_pattern_that_is_proposed_is_one(tab: Tab, command: str) -> None:
    proposed = tab(f"tamtctl {command} --pattern ")
    assert {UNSTRUCTURED, "2:4", "4:8", "block:4x4", *PATTERNS} <= set(proposed)
    assert [find_pattern(name).name for name in proposed] == proposed
    assert tab(f"tamtctl {command} --pattern blo") == [n for n in proposed if n[:3] == "blo"]


def test_the_last_of_several_names_is_completed_and_none_is_proposed_twice(tab: Tab) -> None:
    assert tab("tamtctl compare --tasks sst2,m") == ["sst2,mrpc", "sst2,mnli"]
    assert tab("tamtctl compare --methods imp,im") == []


def test_tickets_are_completed_wherever_one_is_asked_for(tab: Tab) -> None:
    made = Path("runs/search-nano/ticket")
    made.mkdir(parents=True)
    (made / "ticket.json").touch()
    Path("runs/search-unfinished").mkdir()
    for asked in (
        "tamtctl inspect ", "tamtctl push ", "tamtctl export ", "tamtctl evaluate ",
        "tamtctl compare nano-0.7 ", "tamtctl finetune sst2 --ticket ",
    ):  # fmt: skip
        assert tab(asked) == [*packaged_tickets(), str(made)], asked
    assert tab("tamtctl search --init ru") == [str(made)]


def test_rare_options_are_completed_too(tab: Tab) -> None:
    assert tab("tamtctl search --init-s") == ["--init-scores"]
    assert tab("tamtctl ex") == ["export"]


def test_zsh_shows_the_help_of_an_option_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "tamtctl search --base")
    monkeypatch.setenv("_TAMTCTL_COMPLETE", "complete_zsh")
    with pytest.raises(SystemExit):
        get_command(app).main([], prog_name="tamtctl", standalone_mode=False)
    assert "org/name[@revision]" in capsys.readouterr().out


def test_completing_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['tamtctl']\n"
        "from tamtctl.cli.app import main\n"
        "try: main()\n"
        "finally: print({'torch', 'transformers', 'numpy', 'huggingface_hub'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=_asked("tamtctl inspect nano-0.8 nano-0.9"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "nano-0.9\nset()\n"
