"""A configuration is told as it would be typed, and typed again it is the same."""

from __future__ import annotations

import shlex

import pytest

from tamtctl.comparison.config import CompareConfig
from tamtctl.foundations.typed_command import typed_command
from tamtctl.pruning.config import SearchConfig


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            CompareConfig(tickets=("nano-0.7", "my ticket")),
            "nano-0.7 'my ticket' --seeds 1 --recipe nano",
        ),
        (
            CompareConfig(sparsities=(0.5, 0.75), methods=("obs*fisher",), keep_scores=False),
            "--sparsity 0.5,0.75 --methods 'obs*fisher' --seeds 1 --recipe nano",
        ),
    ],
)
def test_what_is_not_the_default_is_told(config: CompareConfig, words: str) -> None:
    told = typed_command("compare", config)
    assert sorted(shlex.split(told)) == sorted(shlex.split(f"tamtctl compare {words}"))


def test_where_things_lie_is_not_told() -> None:
    config = SearchConfig.from_recipe(
        "fast", sparsity=0.5, model="/home/me/secret/bert", corpus=("../mine/a.txt", "b.txt")
    )
    told = typed_command("search", config)
    assert "secret" not in told
    assert "mine" not in told
    assert "--model bert" in told
    assert "--corpus a.txt --corpus b.txt" in told
