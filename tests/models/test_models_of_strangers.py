"""Models that want to run code, ask a question, or break a library down: one line each."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest

from tamtctl.foundations.errors import ModelError
from tamtctl.models.loading import load_config

COMMANDS = {
    "search": "search --sparsity 0.5 --recipe nano --model m --corpus c.txt --dry-run",
    "evaluate": "evaluate m --task kd --model m --corpus c.txt",
    "finetune": "finetune python-docs-topic --dense --model m --limit 8",
    "export": "export nano-0.7 --model m --output-dir made",
    "import": "import m --model m --output-dir made",
}


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, text_file: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "m")
    shutil.copy(text_file, tmp_path / "c.txt")
    return tmp_path


def run(command: str, folder: Path) -> tuple[int | None, str]:
    process = processes.start(command.split(), folder)
    process.join(100)
    assert not process.is_alive()  # it waits for nobody
    return process.exitcode, (folder / "err").read_text()


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def with_code(folder: Path, architecture: str) -> None:
    """Let a model bring code that leaves a trace if it is run."""
    names = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer")
    code = f"open({str(folder / 'was_run')!r}, 'w').close()\nclass C: pass\n"
    (folder / "m/evil.py").write_text(code)
    map_ = dict.fromkeys(names, "evil.C") | {"AutoTokenizer": ["evil.C", "evil.C"]}
    change(folder / "m/config.json", auto_map=map_, model_type=architecture)
    change(folder / "m/tokenizer_config.json", auto_map=map_)


def with_broken_normalizer(folder: Path) -> None:
    """Let a tokenizer hold what its library panics at."""
    broken = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    change(folder / "m/tokenizer.json", normalizer=broken)


def nested(folder: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    (folder / "m/config.json").write_text(f'{{"model_type": "bert", "x": {deep}}}')


BREAKING: dict[str, tuple[Callable[[Path], None], str]] = {
    "code": (lambda folder: with_code(folder, "evil"), "never run here"),
    "panic": (with_broken_normalizer, "tokenizer.json that the library cannot read"),
    "nesting": (nested, "m"),
}


@pytest.mark.parametrize(
    ("breaking", "command"),
    # Before it asks for its tokenizer, export sees that the model is not the ticket's.
    [pair for pair in itertools.product(BREAKING, COMMANDS) if pair != ("panic", "export")],
)
def test_it_ends_in_one_line(breaking: str, command: str, folder: Path) -> None:
    make, said = BREAKING[breaking]
    make(folder)
    code, err = run(COMMANDS[command], folder)
    assert code == 1, err
    *progress, line = err.splitlines()
    assert not any("error" in one.lower() or "Traceback" in one for one in progress), err
    assert line.startswith("error: ")
    assert said in line
    for advice in ("trust_remote_code", "weights_only", "internal error"):
        assert advice not in err
    assert not (folder / "was_run").exists()
    assert not (folder / "made").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", 5),
        ("architectures", "BertModel"),
        ("architectures", [None]),
        ("problem_type", ["regression"]),
        ("dtype", 5),
    ],
)
def test_names_in_a_configuration_are_texts(key: str, value: Any, folder: Path) -> None:
    change(folder / "m/config.json", **{key: value})
    with pytest.raises(ModelError, match=rf"{key} of its config.json is .*; give a sound check"):
        load_config(str(folder / "m"))


def test_code_beside_a_known_architecture_is_not_run(folder: Path) -> None:
    with_code(folder, "bert")
    code, err = run(COMMANDS["evaluate"], folder)
    assert code == 0, err
    assert not (folder / "was_run").exists()


def test_a_recipe_that_is_nested_too_deep_is_named(folder: Path) -> None:
    (folder / "deep.toml").write_text("x = " + "[" * 10_000 + "]" * 10_000)
    code, err = run("search --sparsity 0.5 --recipe deep.toml", folder)
    assert code == 2
    assert "deep.toml" in err
    assert err.count("\n") == 1
