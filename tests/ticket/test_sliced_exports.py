"""Exports of tickets of whole neurons: smaller, and with the outputs of the masked model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from sentence_models import TEXTS, sentence_model
from small_tickets import magnitude_ticket
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.heads import HEADS
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


def loaded(folder: Path | str, head: str) -> PreTrainedModel:
    model: PreTrainedModel = HEADS[head].from_pretrained(str(folder), dtype=torch.float32).eval()
    return model


def outputs(model: PreTrainedModel, head: str) -> torch.Tensor:
    ids = torch.randint(5, 80, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: tuple[torch.Tensor, ...] = model(
            input_ids=ids.unsqueeze(0) if head == "multiple-choice" else ids, return_dict=False
        )
    return found[0]


FAMILIES = ("bert", "distilbert", "albert", "mpnet", "modernbert")
USUAL = [("bert", head) for head in HEADS] + [(family, "masked-lm") for family in FAMILIES[1:]]


@pytest.mark.parametrize(
    ("family", "head"),
    [
        pytest.param(family, head, marks=[pytest.mark.slow] * ((family, head) not in USUAL))
        for family in FAMILIES
        for head in HEADS
    ],
)
def test_every_head_gives_what_the_masked_model_gives(family: str, head: str) -> None:
    tiny.save(Path("model"), family, with_head=head == "masked-lm")
    torch.manual_seed(0)
    whole = loaded("model", head)
    tiny.tokenizer().save_pretrained("whole")
    whole.save_pretrained("whole")  # with a head that is not random
    ticket = magnitude_ticket(Path("whole"), "neurons")
    done = write_checkpoint(ticket, "small", head=head)
    masked = loaded("whole", head)
    Ticket.load(ticket).apply(masked)
    small = loaded("small", head)
    assert torch.allclose(outputs(small, head), outputs(masked, head), rtol=0, atol=1e-5)
    assert not torch.allclose(outputs(small, head), outputs(loaded("whole", head), head), atol=2e-5)
    size = "hidden_dim" if family == "distilbert" else "intermediate_size"
    assert getattr(small.config, size) == 16
    assert done.zeros == 0
    assert any(f"config.json says {size} 16" in note for note in done.notes)
    count = sum(p.numel() for p in whole.parameters())
    assert sum(p.numel() for p in small.parameters()) < count
    assert done.bytes < sum(f.stat().st_size for f in Path("whole").iterdir()) + 10_000


def test_a_sentence_encoder_stays_one() -> None:
    library = pytest.importorskip("sentence_transformers")
    base = sentence_model(
        Path("st"), {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    )
    ticket = magnitude_ticket(base, "neurons")
    done = write_checkpoint(ticket, "small")
    assert done.load == "SentenceTransformer('small')"
    assert done.checked == "outputs and sentence embeddings"
    small = library.SentenceTransformer("small", device="cpu")
    masked = library.SentenceTransformer(str(base), device="cpu")
    dense = masked.encode(TEXTS)
    Ticket.load(ticket).apply(masked)
    assert np.abs(small.encode(TEXTS) - masked.encode(TEXTS)).max() < 1e-5
    assert np.abs(small.encode(TEXTS) - dense).max() > 1e-3


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_it_is_as_far_from_the_dense_model_as_the_masked_one(family: str, text_file: Path) -> None:
    base = tiny.save(Path("model"), family)
    ticket = magnitude_ticket(base, "neurons")
    write_checkpoint(ticket, "small")
    common: dict[str, Any] = {"task": "kd", "corpus": (str(text_file),), "blocks": 8}
    masked = evaluate(EvaluateConfig(name=str(ticket), **common))
    sliced = evaluate(EvaluateConfig(name="small", model=str(base), **common))
    assert masked.score > 1e-3
    assert sliced.score == pytest.approx(masked.score, rel=1e-5)
    few = Path("few-words.txt")
    few.write_text(
        "\n\n".join("the list " * (at % 7 + 1) + "is set " * (at % 9) for at in range(63))
    )
    write_checkpoint(ticket, "trimmed", trim_to=str(few))
    with pytest.raises(ModelError, match="hidden states of other tokens cannot be compared"):
        evaluate(EvaluateConfig(name="trimmed", model=str(base), **common))


def test_masks_that_are_known_by_the_weights_alone_are_sliced_too() -> None:
    model = tiny.save(Path("model"), "bert")
    ticket = magnitude_ticket(model, "neurons", "delta")
    assert json.loads((ticket / "ticket.json").read_text())["pattern"] == "neurons"
    write_checkpoint(ticket, "small")
    assert json.loads(Path("small/config.json").read_text())["intermediate_size"] == 16


def test_a_smaller_checkpoint_is_fine_to_train() -> None:
    model = tiny.save(Path("model"), "bert", with_head=False)
    write_checkpoint(magnitude_ticket(model, "neurons"), "small", head="sequence-classification")
    small = AutoModelForSequenceClassification.from_pretrained("small").train()
    small(input_ids=torch.arange(8).view(2, 4), labels=torch.tensor([0, 1])).loss.backward()
    assert all(p.grad is not None for n, p in small.named_parameters() if "dense" in n)


def test_other_patterns_keep_their_zeros() -> None:
    model = tiny.save(Path("model"), "bert")
    done = write_checkpoint(magnitude_ticket(model, "2:4"), "same")
    assert json.loads(Path("same/config.json").read_text())["intermediate_size"] == 32
    assert done.zeros == done.weights // 2
    assert any("tamtctl.semi_structured(model)" in note for note in done.notes)


def test_large_outputs_may_differ_by_as_much_rounding() -> None:
    """The largest logits of nano are over 10, and rounded by more than 1e-5 in any order."""
    done = write_checkpoint(magnitude_ticket(Path("nano"), "neurons"), "small")
    assert done.head == "masked-lm"
    assert outputs(loaded("small", "masked-lm"), "masked-lm").abs().max() > 10


def test_tied_weights_of_a_model_in_half_precision_are_stored_once() -> None:
    done = write_checkpoint(magnitude_ticket(Path("nano"), "neurons"), "small")
    model = loaded("small", "masked-lm")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert done.parameters == sum(p.numel() for p in model.parameters())
    assert Path("small/model.safetensors").stat().st_size < 2 * done.parameters + 20_000
