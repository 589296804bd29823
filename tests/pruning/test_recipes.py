"""Every field of a recipe counts, in a search and in a sweep, unless the shell gives the option."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tamtctl import CompareConfig, SearchConfig
from tamtctl.cli.command import Given, command
from tamtctl.comparison.grid import Cell
from tamtctl.foundations.config import settings_of
from tamtctl.foundations.errors import UsageError

# Setting → what a recipe says of it, what the shell says, and what the setting cannot be without.
VALUES: dict[str, tuple[Any, Any, str]] = {
    "sparsity": (0.3, 0.4, ""),
    "model": ("m", "n", ""),
    "corpus": (["a.txt"], ["b.txt"], ""),
    "stream": (True, True, ""),
    "held_out": (["h.txt"], ["i.txt"], ""),
    "check_corpus": (["c.txt"], ["d.txt"], ""),
    "text_column": ("body", "text", ""),
    "rows": ("lines", "blocks", ""),
    "method": ("random", "tamt", ""),
    "objective": ("kd", "mlm", ""),
    "init": ("random", "magnitude", ""),
    "init_scores": ("nats", "two-valued", ""),
    "allocation": ("global", "by-type", ""),
    "budget_criterion": ("magnitude", "obs", "allocation = 'global'"),
    "floor": (0.1, 0.2, "allocation = 'global'"),
    "word_floor": (0.25, 0.0, ""),
    "pattern": ("unstructured", "unstructured", ""),
    "latency": (0.5, 0.75, "pattern = 'neurons'"),
    "latency_batch": (1, 2, "pattern = 'neurons'\nlatency = 0.5"),
    "latency_length": (9, 8, "pattern = 'neurons'\nlatency = 0.5"),
    "latency_threads": (2, 1, "pattern = 'neurons'\nlatency = 0.5"),
    "latency_backend": ("onnx", None, "pattern = 'neurons'\nlatency = 0.5"),
    "steps": (7, 8, ""),
    "prune_every": (5, 40, "method = 'imp'"),
    "rewind": ("none", "weights", "method = 'imp'"),
    "schedule_epochs": (1.5, None, ""),
    "batch_size": (4, 16, ""),
    "micro_batch_size": (2, 3, ""),
    "sequence_length": (64, 128, ""),
    "learning_rate": (0.5, 0.25, ""),
    "head_learning_rate": (0.5, 0.25, ""),
    "weight_decay": (0.1, None, ""),
    "adam_epsilon": (1e-6, None, ""),
    "bias_correction": (False, None, ""),
    "clip": ("per-tensor", None, ""),
    "max_grad_norm": (2.0, None, ""),
    "dropout": (True, None, ""),
    "evaluation_blocks": (9, None, ""),
    "calibration_tokens": (99, 100, ""),
    "precision": ("fp32", "auto", ""),
    "compile": (True, True, ""),
    "low_memory": (True, True, ""),
    "device": ("cpu", "auto", ""),
    "threads": (3, 4, ""),
    "seed": (5, 1, ""),
    "max_minutes": (1.5, 2.5, ""),
    "checkpoint_every": (6, 7, ""),
    "eval_every": (8, 9, ""),
    "patience": (2, 3, "eval_every = 8"),
    "log_to": ("tensorboard", "tensorboard", ""),
    "keep_scores": (True, True, ""),
    "from_scores": ("run", None, ""),
    "base_model": ("org/name", "org/other", ""),
    "eval_steps": ([10, 20], None, ""),
}
# What a sweep decides itself: it is of these.
OF_THE_SWEEP = {"sparsity", "method", "objective", "steps", "from_scores"}
OF_A_LATENCY = {name for name in VALUES if name.startswith("latency")}  # instead of a sparsity


def _recipe(folder: Path, name: str, table: str = "") -> str:
    value, _, also = VALUES[name]
    text = f"{name} = {json.dumps(value)}"  # TOML writes these values as JSON does
    file = folder / "r.toml"
    at = [] if name in {"sparsity", *OF_A_LATENCY} else ["sparsity = 0.5"]
    file.write_text("\n".join([*at, table, also, text]))
    return str(file)


def _searched(recipe: str, *arguments: str) -> SearchConfig:
    """Return what ``tamtctl search`` with these arguments and a recipe searches."""
    found = []
    shell = typer.Typer()

    def show(given: Given, output: object) -> None:
        """Keep the configuration."""
        found.append(SearchConfig.from_recipe(recipe, **given))

    shell.command()(command(SearchConfig, has_recipe=True)(show))
    done = CliRunner().invoke(shell, list(arguments))
    assert done.exit_code == 0, (done.output, done.exception)
    return found[0]


def _as_setting(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_every_setting_is_tried() -> None:
    assert list(VALUES) == list(settings_of(SearchConfig))


@pytest.mark.parametrize("name", VALUES)
def test_a_recipe_counts_in_a_search_unless_the_shell_gives_the_option(
    name: str, tmp_path: Path
) -> None:
    value, other, _ = VALUES[name]
    one = settings_of(SearchConfig)[name]
    recipe = _recipe(tmp_path, name)
    assert getattr(_searched(recipe), name) == _as_setting(value)
    if other is None:
        return
    given = [f"--{one.option}"]
    if one.kind.one != "bool":
        given.append(str(other[0]) if isinstance(other, list) else str(other))
    assert getattr(_searched(recipe, *given), name) == _as_setting(other)


@pytest.mark.parametrize("name", sorted(VALUES.keys() - OF_THE_SWEEP - OF_A_LATENCY))
def test_a_recipe_counts_in_a_sweep(name: str, tmp_path: Path) -> None:
    value, _, _ = VALUES[name]
    is_of_imp = name in ("prune_every", "rewind")
    file = tmp_path / "r.toml"
    also = "eval_every = 8\n" * (name == "patience")
    also += "allocation = 'global'\n" * (name in ("budget_criterion", "floor"))
    table = "[imp]" if is_of_imp else "[tamt]"
    file.write_text(f"{table}\n{also}{name} = {json.dumps(value)}\n")
    config = CompareConfig(sparsities=(0.5,), recipe=str(file))
    method = "imp" if is_of_imp else "tamt-mlm"
    (cell,) = [cell for cell in config.cells() if cell.method == method]
    assert getattr(config.search_config(cell), name) == _as_setting(value)


def test_seeds_of_the_shell_come_before_those_of_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("seed = 4\n[tamt]\nseed = 5\n")
    by_recipe = CompareConfig(sparsities=(0.5,), methods=("tamt-mlm", "imp"), recipe=str(file))
    assert by_recipe.cells() == [Cell("tamt-mlm", 0.5, 5), Cell("imp", 0.5, 4)]
    by_shell = CompareConfig(
        sparsities=(0.5,), methods=("tamt-mlm", "imp"), recipe=str(file), seeds=(1,)
    )
    assert by_shell.cells() == [Cell("tamt-mlm", 0.5, 1), Cell("imp", 0.5, 1)]


OF_THE_FILE = {
    "batch_size = 0": "^recipe file '{file}': --batch-size must be at least 1, got 0$",
    "[tamt]\nlearning-rate = -1": "^recipe file '{file}': --learning-rate must be greater than 0",
    'recipe = "other.toml"': "^recipe file '{file}' builds on one of nano, fast, paper, not on",
    'recipe = ["nano"]': r"^recipe file '{file}' builds on one of .*, not on \['nano'\]",
    'allocation = "half"': "^recipe file '{file}': --allocation must be one of",
    "prune-every = 9": r"^recipe file '{file}': prune_every is for one method; .* table \[imp\]$",
    'rewind = "none"': r"^recipe file '{file}': rewind is for one method; .* table \[imp\]$",
}


@pytest.mark.parametrize("text", OF_THE_FILE)
def test_a_value_of_a_file_is_a_fault_of_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    line = OF_THE_FILE[text].replace("{file}", re.escape(str(file)))
    with pytest.raises(UsageError, match=line):
        SearchConfig.from_recipe(str(file), sparsity=0.5)
    with pytest.raises(UsageError, match=r"^--steps must be"):  # that is typed
        SearchConfig.from_recipe("nano", sparsity=0.5, steps=-1)
