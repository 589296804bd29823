"""Code that a script registers: a change is noticed, and what it leaves is harmless."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from small_search import small_config
from torch import Tensor

import tamtctl
from tamtctl.foundations.errors import ChangedInputsError, UsageError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import CRITERIA, Criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.finetuning.config import FinetuneConfig

CODE = """
def scores(context):
    return {name: SIGN * weight.abs() for name, weight in context.weights.items()}
"""


class Attached:
    """A criterion that takes gradients itself and leaves them attached to its scores."""

    def scores(self, context: Context) -> Mapping[str, Tensor]:
        weights = context.weights.items()
        return {name: weight.clone().requires_grad_().abs() for name, weight in weights}


def test_a_criterion_that_has_changed_is_not_the_one_of_an_earlier_run(
    tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "scripted_criterion.py"
    script.write_text(CODE.replace("SIGN", "1"))
    with CRITERIA.holding(Criterion(name="scripted", code="scripted_criterion")):
        config = SearchConfig.from_recipe(
            "nano", sparsity=0.7, model=str(tiny_model), corpus=(str(text_file),),
            method="scripted", sequence_length=16, evaluation_blocks=8, device="cpu",
        )  # fmt: skip
        first = search(config)
        assert search(config).already_done
        script.write_text(CODE.replace("SIGN", "-1"))
        with pytest.raises(ChangedInputsError, match="the code of criterion scripted changed"):
            search(config)
    assert first.losses


@pytest.mark.usefixtures("working_folder")
def test_scores_may_have_gradients_attached(tiny_model: Path, text_file: Path) -> None:
    with CRITERIA.holding(Criterion(name="attached", code=Attached())):
        config = small_config(tiny_model, text_file, init="attached", init_scores="nats", steps=1)
        assert search(config).losses


@pytest.mark.parametrize("given", ["nano", None, FinetuneConfig(task="sst2")])
def test_what_is_no_configuration_is_refused_at_once(given: object) -> None:
    with pytest.raises(UsageError, match=r"^search takes a SearchConfig, got "):
        tamtctl.search(given)  # type: ignore[arg-type]
