"""A setting is declared once: option, recipe key, help and hash follow from its field."""

from __future__ import annotations

import pydoc
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from tamtctl import (
    BenchConfig,
    CompareConfig,
    EvaluateConfig,
    FinetuneConfig,
    RecoverConfig,
    SearchConfig,
)
from tamtctl.cli.app import app
from tamtctl.cli.command import Given, command
from tamtctl.cli.help import Command
from tamtctl.foundations.checks import at_least
from tamtctl.foundations.config import (
    METHOD,
    NEVER,
    PANELS,
    Config,
    Setting,
    configuration,
    setting,
    settings_of,
)
from tamtctl.foundations.errors import UsageError

COMMANDS: dict[str, type[Config]] = {
    "search": SearchConfig,
    "compare": CompareConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
}
SETTINGS = [(command, name) for command, kind in COMMANDS.items() for name in settings_of(kind)]
FLAVOURS = ["plain"]

# What names a run at whatever value. Whoever adds a setting says what the code did before there was
# one (`before`), or every run that is there loses its name.
ALWAYS_TOLD = {
    "search": """
        adam_epsilon batch_size bias_correction check_corpus clip corpus device dropout
        evaluation_blocks eval_every held_out init learning_rate max_grad_norm max_minutes method
        micro_batch_size model objective precision prune_every rewind schedule_epochs seed
        sequence_length sparsity steps stream text_column threads weight_decay
    """,
    "compare": """
        at_steps budget corpus data_dir device evaluation_blocks keep_scores limit methods model
        precision prune_every recipe seeds sequence_length sparsities task_epochs
        task_learning_rate task_seeds tasks text_column threads tickets
    """,
    "finetune": """
        batch_size data_dir dense dev device epochs find_learning_rate label_column label_kind
        learning_rate limit max_length model patience precision seeds select task text_columns
        threads ticket train
    """,
}


@configuration
class Toy(SearchConfig):
    """A search with a setting more."""

    warmth: int = setting(
        default=3, help="Warmth of the toy.", panel=METHOD, check=at_least(0), before=2
    )
    flavour: str = setting(
        default="plain",
        help="One of {choices}.",
        panel=METHOD,
        choices=lambda: FLAVOURS,
        before="plain",
    )


def _toy_command() -> typer.Typer:
    toy = typer.Typer(rich_markup_mode=None)

    def show(given: Given, output: object, recipe: str = "nano") -> None:
        """Make a toy."""
        config = Toy.from_recipe(recipe, **given)
        typer.echo(f"{config.warmth} {config.flavour} {config.steps} {config.hash}")

    toy.command(cls=Command)(command(Toy, has_recipe=True)(show))
    return toy


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(_toy_command(), ["--sparsity", "0.5", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_new_setting_is_an_option_in_the_help() -> None:
    text = " ".join(_run("--help", "--all").split())
    assert re.search(r"--warmth <int> Warmth of the toy\.", text)
    assert "--warmth" not in _run("--help"), "the one screen has what is declared common"
    assert _run("--warmth", "5").startswith("5 plain 240 ")
    with pytest.raises(UsageError, match=r"^--warmth must be at least 0, got -1$"):
        _run("--warmth", "-1")
    assert "warmth: Warmth of the toy." in pydoc.plain(pydoc.render_doc(Toy))


def test_a_new_setting_may_stand_in_a_recipe_until_the_shell_gives_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("warmth = 4\nsteps = 7\n[tamt]\nflavour = 'plain'\n")
    assert _run("--recipe", str(recipe)).startswith("4 plain 7 ")
    # The shell's value counts even where it is the default.
    assert _run("--recipe", str(recipe), "--warmth", "3").startswith("3 plain 7 ")
    recipe.write_text("warmth = 'hot'\n")
    with pytest.raises(UsageError, match="warmth must be a whole number, got 'hot'"):
        _run("--recipe", str(recipe))
    recipe.write_text("warmht = 4\n")
    with pytest.raises(UsageError, match="unknown key 'warmht'; did you mean warmth"):
        _run("--recipe", str(recipe))


def test_a_new_setting_names_the_run_unless_it_is_as_it_was_before() -> None:
    old = SearchConfig.from_recipe("nano", sparsity=0.5)
    as_before = Toy.from_recipe("nano", sparsity=0.5, warmth=2)
    assert as_before.to_dict() == old.to_dict()
    assert as_before.hash == old.hash
    # The default is another one now: a run at it is not what the old code did.
    new = Toy.from_recipe("nano", sparsity=0.5)
    assert new.to_dict() == old.to_dict() | {"warmth": 3}
    assert new.hash != old.hash


def test_a_name_that_is_registered_later_is_accepted_and_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="must be one of plain, got 'mint'"):
        _run("--flavour", "mint")
    monkeypatch.setitem(globals(), "FLAVOURS", ["plain", "mint"])
    assert "One of plain, mint." in " ".join(_run("--help", "--all").split())
    assert _run("--flavour", "mint").startswith("3 mint ")
    assert "flavour: One of plain, mint." in str(Toy.__doc__)


def test_a_field_that_is_no_setting_is_refused() -> None:
    @configuration
    class Wrong(SearchConfig):
        """A search with a field of which nothing is known."""

        warmth: int = 3

    with pytest.raises(TypeError, match=r"Wrong\.warmth is declared without setting"):
        settings_of(Wrong)


def _one(command: str, name: str) -> Setting:
    return settings_of(COMMANDS[command])[name]


@pytest.mark.parametrize(("command", "name"), SETTINGS)
def test_a_setting_says_all_about_itself(command: str, name: str) -> None:
    one = _one(command, name)
    for paragraph in one.help.split("\n\n"):
        assert re.fullmatch(r"[A-Z].*\.|imp: .*\.", paragraph), one.help
    assert not one.help.startswith("Of ")
    assert one.facts.panel in PANELS
    assert one.kind.one in ("str", "int", "float", "bool")
    if one.kind.one in ("int", "float"):
        assert one.facts.check is not None, "a number is checked"
    if one.facts.choices:
        assert "{choices}" in one.facts.help or all(
            choice in one.help or one.facts.is_open for choice in one.names
        )
    if isinstance(one.default, str | int | float | tuple) and one.default != ():
        one.check(one.settled(one.default))


@pytest.mark.parametrize(("command", "name"), SETTINGS)
def test_a_setting_is_an_option_or_for_the_library_alone(command: str, name: str) -> None:
    one = _one(command, name)
    parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
    told = {option for parameter in parameters for option in (parameter.name, *parameter.opts)}
    typed = one.facts.typed
    wanted = name if typed and typed.is_argument else f"--{one.option}"
    assert (wanted in told) == (typed is not None)


def test_the_library_takes_a_setting_by_the_name_of_its_option() -> None:
    told = {
        (CompareConfig, "sparsities", "sparsity"): (0.5,),
        (CompareConfig, "evaluation_blocks", "blocks"): 8,
        (CompareConfig, "task_text_columns", "task_text_column"): ("a", "b"),
        (FinetuneConfig, "text_columns", "text_column"): ("a", "b"),
        (EvaluateConfig, "text_columns", "text_column"): ("a", "b"),
        (BenchConfig, "tasks", "task"): ("mlm",),
    }
    needed: dict[type[Config], dict[str, Any]] = {
        FinetuneConfig: {"task": "sst2", "dense": True},
        EvaluateConfig: {"name": "nano"},
        BenchConfig: {"folders": ("nano",)},
    }
    kinds = (*COMMANDS.values(), BenchConfig, RecoverConfig)
    assert set(told) == {
        (kind, one.name, one.parameter)
        for kind in kinds
        for one in settings_of(kind).values()
        if one.parameter != one.name
    }
    for (kind, name, parameter), value in told.items():
        others = needed.get(kind, {} if name == "sparsities" else {"tickets": ("nano-0.7",)})
        assert kind(**others, **{parameter: value}) == kind(**others, **{name: value})
        assert f"Also taken as ``{parameter}``" in " ".join(str(kind.__doc__).split())
        with pytest.raises(UsageError, match=f"{name} and {parameter} are one setting"):
            kind(**others, **{parameter: value, name: value})


def test_few_settings_are_for_the_library_alone() -> None:
    alone = [name for command, name in SETTINGS if _one(command, name).facts.typed is None]
    assert alone == [
        "schedule_epochs", "weight_decay", "adam_epsilon", "bias_correction", "clip",
        "max_grad_norm", "dropout", "evaluation_blocks", "eval_steps",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ALWAYS_TOLD)
def test_a_run_that_is_there_keeps_its_name(command: str) -> None:
    told = {
        name
        for name, one in settings_of(COMMANDS[command]).items()
        if one.facts.names_run and one.facts.before is NEVER
    }
    assert told == set(ALWAYS_TOLD[command].split())


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_help_in_python_shows_every_setting_once(kind: type[Any]) -> None:
    text = pydoc.plain(pydoc.render_doc(kind))
    for name, one in settings_of(kind).items():
        words = " ".join(one.help.split()[:4])
        assert len(re.findall(rf"{name}: {re.escape(words)}", " ".join(text.split()))) == 1
