"""A mask is measured in one way, whoever asks: a search, a comparison or an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_search import small_config
from torch import Tensor

from tamtctl.foundations.devices import Compute
from tamtctl.models import encoder
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.searching.api import search
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.ticket.texts import TextSource
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


def opened(model: Path, text: Path) -> HeldOutText:
    return HeldOutText.open(
        str(model),
        TextSource((str(text),), sequence_length=16),
        limit=8,
        compute=Compute.choose("cpu", "fp32", None),
    )


@pytest.mark.parametrize("objective", ["mlm", "kd"])
def test_search_comparison_and_evaluation_measure_the_same(
    objective: str, tiny_model: Path, text_file: Path
) -> None:
    config = small_config(tiny_model, text_file, objective=objective, steps=4)
    found = search(config, output_dir=Path("run"))
    masks = Ticket.load(found.ticket).full_masks(
        load_encoder(str(tiny_model), with_head=False).weights
    )
    text = opened(tiny_model, text_file)
    measured = text.losses(masks)[objective]
    evaluated = evaluate(
        EvaluateConfig(
            name=str(found.ticket),
            task=objective,
            corpus=(str(text_file),),
            held_out_tenth=True,
            blocks=8,
        )
    )
    assert measured.mean == found.losses["ticket"] == evaluated.score
    assert measured.standard_error == found.standard_errors["ticket"] == evaluated.standard_error
    assert text.losses(None)[objective].mean == found.losses["dense"]


def test_a_mask_that_prunes_nothing_is_the_dense_model(tiny_model: Path, text_file: Path) -> None:
    found = search(
        small_config(tiny_model, text_file, objective="kd", method="random", sparsity=0.0),
        output_dir=Path("run"),
    )
    assert set(found.losses.values()) == {0.0}  # and not what rounding leaves
    text = opened(tiny_model, text_file)
    everything = {n: torch.ones_like(w, dtype=torch.bool) for n, w in text.frozen.items()}
    assert text.losses(everything)["kd"].mean == 0.0


def test_a_search_hashes_each_weight_once(
    tiny_model: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    hash_of = encoder.sha256_of_weight

    def counting(weight: Tensor) -> str:
        hashed.append(weight.numel())
        return hash_of(weight)

    monkeypatch.setattr(encoder, "sha256_of_weight", counting)
    matrices = len(load_encoder(str(tiny_model), with_head=False).weights)
    first = search(small_config(tiny_model, text_file, steps=1), output_dir=Path("one"))
    assert len(hashed) == matrices
    hashed.clear()
    wanted = small_config(tiny_model, text_file, steps=1, init=str(first.ticket))
    second = search(wanted, output_dir=Path("two"))
    assert len(hashed) == matrices  # for the check of the ticket that it starts at
    assert (
        Ticket.load(second.ticket).parameters.keys() == Ticket.load(first.ticket).parameters.keys()
    )
    assert Ticket.load(second.ticket).base_model == Ticket.load(first.ticket).base_model
