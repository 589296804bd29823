"""In the library, paths and single texts mean what they say; what means nothing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamtctl import CompareConfig, EvaluateConfig, FinetuneConfig, SearchConfig
from tamtctl.foundations.errors import UsageError

SEARCH: dict[str, Any] = {"sparsity": 0.5}


def test_a_search_is_told_by_paths_and_single_texts() -> None:
    plain = SearchConfig.from_recipe(
        "nano", sparsity=0.5, model="m", corpus=("c.txt",), held_out=("h.txt",), init="t"
    )
    for changes in (
        {"model": Path("m"), "corpus": "c.txt", "held_out": Path("h.txt"), "init": Path("t")},
        {"model": "m", "corpus": Path("c.txt"), "held_out": [Path("h.txt")], "init": "t"},
        {"model": "m", "corpus": ["c.txt"], "held_out": "h.txt", "init": "t"},
    ):
        told = SearchConfig.from_recipe("nano", sparsity=np.float64(0.5), **changes)
        assert told == plain
        assert told.hash == plain.hash
    of_numpy: dict[str, Any] = {"steps": np.int64(3), "seed": np.int32(2)}
    with_numpy = SearchConfig.from_recipe("nano", sparsity=0.5, **of_numpy)
    assert type(with_numpy.steps) is type(with_numpy.seed) is int


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_number_of_numpy_is_the_decimal_it_was_written_as(kind: type[Any]) -> None:
    # 0.69999999 would keep one weight more of a thousand.
    told = SearchConfig.from_recipe("nano", sparsity=kind(0.7))
    assert told == SearchConfig.from_recipe("nano", sparsity=0.7)
    with pytest.raises(UsageError, match=r"--sparsity has 0\.7 twice"):
        CompareConfig(sparsities=(0.7, kind(0.7)))


def test_the_other_configurations(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "train": tmp_path / "a", "dev": tmp_path / "b", "model": tmp_path, "text_columns": "text",
        "seeds": 3,
    }  # fmt: skip
    own = FinetuneConfig(task="own", dense=True, **values)
    assert own.to_dict() == FinetuneConfig(
        task="own", train=str(tmp_path / "a"), dev=str(tmp_path / "b"), model=str(tmp_path),
        text_columns=("text",), dense=True, seeds=(3,),
    ).to_dict()  # fmt: skip
    assert EvaluateConfig(name=Path("t"), corpus="c.txt").corpus == ("c.txt",)  # type: ignore[arg-type]
    assert EvaluateConfig(name=Path("t")).name == "t"  # type: ignore[arg-type]
    sweep = CompareConfig(sparsities=0.5, methods="tamt-mlm", seeds=1, tasks="sst2", at_steps=20)  # type: ignore[arg-type]
    assert sweep == CompareConfig(
        sparsities=(0.5,), methods=("tamt-mlm",), seeds=(1,), tasks=("sst2",), at_steps=(20,)
    )
    assert CompareConfig(tickets=Path("t")).tickets == ("t",)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": 5}, "--corpus must be a text or a path, or several, got 5"),
        ({"corpus": ("a", b"b")}, "--corpus must be a text or a path, or several, got b'b'"),
        ({"corpus": {"a", "b"}}, "--corpus must be"),
        ({"model": 3}, "--model must be a text or a path, got 3"),
        ({"model": b"m"}, "--model must be a text"),
        ({"steps": "10"}, "--steps must be a whole number, got '10'"),
        ({"steps": True}, "--steps must be a whole number, got True"),
        ({"steps": 1.5}, "--steps must be a whole number, got 1.5"),
        ({"sparsity": "0.5"}, "--sparsity must be a number, got '0.5'"),
        ({"sparsity": True}, "--sparsity must be a number, got True"),
        ({"learning_rate": np.ones(3)}, "--learning-rate must be a number"),
        ({"dropout": 1}, "--dropout must be True or False, got 1"),
        ({"stream": "no"}, "--stream must be True or False"),
        ({"sparsety": 0.5}, "no setting 'sparsety'; did you mean sparsity"),
    ],
)
def test_what_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        SearchConfig.from_recipe("nano", **SEARCH | changes)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_none_is_for_what_may_be_left_out() -> None:
    values = vars(SearchConfig.from_recipe("nano", sparsity=0.5))
    assert SearchConfig(**values | {"threads": None}).threads is None
    for name in ("corpus", "model", "seed", "dropout"):
        with pytest.raises(UsageError, match=f"--{name} must be .* got None"):
            SearchConfig(**values | {name: None})
    with pytest.raises(UsageError, match="--sparsity is needed"):  # or a latency
        SearchConfig(**values | {"sparsity": None})
    for kind, given in ((EvaluateConfig, {"name": None}), (FinetuneConfig, {"task": 3})):
        with pytest.raises(UsageError, match=r"must be a text or a path"):
            kind(**given)


@pytest.mark.parametrize("name", ["ticket", "model", "data_dir", "train", "dev"])
def test_an_empty_name_is_no_name(name: str) -> None:
    values: dict[str, Any] = {"task": "sst2", name: ""}
    with pytest.raises(UsageError, match=f"^--{name.replace('_', '-')} must be not empty, got ''$"):
        FinetuneConfig(**values)
