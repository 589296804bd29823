"""The library's face: what is exported, what help(…) says of it, and that its examples run."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import pydoc
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from typer.main import get_command

import tamtctl
from tamtctl.cli.app import app
from tamtctl.foundations.config import Config, settings_of

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]

# Where a command's name is a word of Python, or it has several functions: those that it calls.
FUNCTIONS = {
    "cache": ["cache_contents", "clear_cache"],
    "compare": ["compare", "plan_comparison", "make_part"],
    "evaluate": ["evaluate", "label"],
    "import": ["import_ticket"],
    "inspect": ["inspect_ticket", "compare_masks", "figure"],
    "list": ["list_tickets", "published_tickets"],
    "search": ["search", "plan_search", "derive", "SearchConfig.from_recipe"],
}
# What a command shows and how, and what is a function of its own.
FOR_THE_SCREEN = {"as_json", "quiet", "debug", "full", "dry_run", "on_hub", "confidence"}
DRAWN_OF_THE_RESULT = {"bench": {"figure"}}


def test_dir_has_the_public_names_alone() -> None:
    assert dir(tamtctl) == sorted([*tamtctl.__all__, "__version__"])
    assert tamtctl.__version__
    with pytest.raises(AttributeError, match="module 'tamtctl' has no attribute 'serach'"):
        tamtctl.serach  # noqa: B018


ODD_CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "combine": (
        lambda: tamtctl.combine("nano-0.7"), "give the tickets as a list, not as 'nano-0.7'",
    ),
    "compare_masks": (
        lambda: tamtctl.compare_masks(Path("nano-0.7")), "give the tickets as a list, not as",  # type: ignore[arg-type]
    ),
    "a revision of what has none": (
        lambda: tamtctl.Ticket.from_pretrained("nano-0.7", revision="main"),
        "nano-0.7 is packaged with tamtctl, and revision 'main' is for a ticket on the Hub",
    ),
    "two revisions": (
        lambda: tamtctl.Ticket.from_pretrained("org/name@a", revision="b"),
        "'org/name@a' and revision 'b' contradict each other",
    ),
    "pull": (lambda: tamtctl.pull(None), "None is no name for the Hub"),  # type: ignore[arg-type]
    "push": (lambda: tamtctl.push("nano-0.7", None), "None is no name for the Hub"),  # type: ignore[arg-type]
    "export": (
        lambda: tamtctl.export("nano-0.7", "new", trim_vocabulary=Path("gone.txt")), "gone.txt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_CALLS)
def test_a_call_that_is_meant_otherwise_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, line = ODD_CALLS[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(tamtctl.TamtctlError, match=re.escape(line)):
        call()


def test_help_of_the_package_is_a_table_of_contents() -> None:
    shown = pydoc.plain(pydoc.render_doc(tamtctl))
    contents = shown.partition("PACKAGE CONTENTS")[0]
    for name in tamtctl.__all__:
        (line,) = re.findall(rf"^ +{name}  +(\S.*)$", contents, re.MULTILINE)
        assert len(line) <= 50
    assert max(map(len, contents.splitlines())) <= 100


def test_what_type_checkers_are_told_is_what_is_exported() -> None:
    source = ast.parse(Path(tamtctl.__file__).read_text())
    told = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tamtctl.")
        for alias in node.names
        if alias.asname
    }
    assert sorted(told) == tamtctl.__all__
    for name, place in told.items():
        thing = getattr(tamtctl, name)
        assert f"{thing.__module__}.{thing.__qualname__}" == place


def _parameters(name: str) -> set[str]:
    thing: Any = tamtctl
    for part in name.split("."):
        thing = getattr(thing, part)
    return set(inspect.signature(thing).parameters)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_function_with_the_parameters_of_its_options(command: str) -> None:
    functions = FUNCTIONS.get(command, [command])
    assert set(functions) <= {*tamtctl.__all__, "SearchConfig.from_recipe"}
    known = set().union(*map(_parameters, functions))
    kind = getattr(tamtctl, f"{command.capitalize()}Config", None)
    if kind and issubclass(kind, Config):
        known |= {one.parameter for one in settings_of(kind).values()} | set(settings_of(kind))
    typed = {one.name.rstrip("_") for one in COMMANDS[command].params} - FOR_THE_SCREEN
    typed -= DRAWN_OF_THE_RESULT.get(command, set())
    called = {"tickets": "name", "predict": "file", "words": "names"}
    missing = {name for name in typed if name not in known and called.get(name) not in known}
    assert missing == set()


def test_help_of_a_recipe_knows_every_setting() -> None:
    shown = inspect.signature(tamtctl.SearchConfig.from_recipe)
    settings = settings_of(tamtctl.SearchConfig)
    assert list(shown.parameters) == ["recipe", *settings]
    assert shown.parameters["corpus"].annotation == "Sequence[str] | None"
    assert "steps: 'int | None' = None" in pydoc.plain(
        pydoc.render_doc(tamtctl.SearchConfig.from_recipe)
    )


@pytest.mark.parametrize("name", tamtctl.__all__)
def test_a_public_name_says_all_about_itself(name: str) -> None:
    thing = getattr(tamtctl, name)
    text = inspect.getdoc(thing) or ""
    assert "\nExample:\n" in text
    assert "tamtctl." in text.partition("\nExample:\n")[2]
    if inspect.isfunction(thing):
        arguments = text.partition("\nArgs:\n")[2].partition("\nRaises:")[0]
        told = set(re.findall(r"^ {4}(\w+): ", arguments, re.MULTILINE))
        assert set(inspect.signature(thing).parameters) <= told | {"endpoint"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory that holds what the examples name."""
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("examples")
    tiny.save(folder / "my-model", "bert")
    words = random.Random(0)
    lines = [" ".join(words.choices(tiny.WORDS, k=12)) + "." for _ in range(120)]
    (folder / "my-text.txt").write_text("\n".join(lines))
    rows = (f"a {label} {line}\t{label}" for line in lines[:20] for label in ("list", "file"))
    (folder / "my-labels.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    sparse = AutoModel.from_pretrained(tamtctl.nano_path(), dtype="float32")
    tamtctl.Ticket.from_pretrained("nano-0.7").apply(sparse)
    sparse.save_pretrained(folder / "my-sparse-model")
    return folder


def test_the_examples_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in the order of the contents, as a reader would type them."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # as a reader of an example may, who sees what loading notes
    monkeypatch.chdir(folder)
    names = {"tamtctl": tamtctl, "torch": torch, "AutoModel": AutoModel}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    in_order = re.findall(r"^    (\w+)  ", tamtctl.__doc__ or "", re.MULTILINE)
    assert sorted(in_order) == tamtctl.__all__
    for name, thing in {"tamtctl": tamtctl, **{n: getattr(tamtctl, n) for n in in_order}}.items():
        text = inspect.getdoc(thing) or ""
        test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
        runner.run(test, out=said.append, clear_globs=False)
        names |= test.globs
    assert runner.failures == 0, "".join(said)


def test_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import json, sys, tamtctl\n"
        "tamtctl.SearchConfig, tamtctl.CompareConfig, dir(tamtctl), tamtctl.__doc__\n"
        "print(json.dumps(sorted({'torch', 'numpy', 'datasets'} & {*sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
