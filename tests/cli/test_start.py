"""``tamtctl`` alone, and the README's beginning: where to start, and what a ticket does not do."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest
from command_line import runner
from typer.main import get_command

from tamtctl.cli.app import app
from tamtctl.cli.start import FIRST_COMMANDS, HONEST

README = Path(__file__).parents[2] / "README.md"


def test_the_bare_command_shows_where_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = runner(monkeypatch, capsys)()
    assert (done.code, done.err) == (0, "")
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert "make nothing smaller or faster by themselves" in " ".join(done.out.split())
    shown = [line.strip() for line in done.out.splitlines() if line.startswith("  tamtctl ")]
    assert shown[:3] == list(FIRST_COMMANDS)
    assert not list(tmp_path.iterdir())


def test_the_readme_begins_with_the_same_commands() -> None:
    beginning = README.read_text(encoding="utf-8").split("## Try it")[0]
    assert all(f"| `{command}` |" in beginning for command in FIRST_COMMANDS)
    assert " ".join(HONEST) in " ".join(beginning.split())


@pytest.mark.parametrize("command", FIRST_COMMANDS)
def test_what_is_shown_can_be_typed(command: str) -> None:
    """That each of them runs, the README's own commands show; here, that no option is mistyped."""
    program, name, *arguments = shlex.split(command)
    assert program == "tamtctl"
    of_name = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert of_name.make_context(name, arguments)


def test_the_plain_install_can_draw() -> None:
    """One of the commands to start with writes figures, and needs no extra for them."""
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))
    names = [requirement.partition(">")[0] for requirement in project["project"]["dependencies"]]
    assert "matplotlib" in names
    assert "tamtctl[report]" not in README.read_text(encoding="utf-8")
