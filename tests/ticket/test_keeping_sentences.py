"""Zeros survive in the models of sentence-transformers, trained by its own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from kept_zeros import Lion, has_its_zeros
from samples import ticket_for
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Router, Transformer

import tamtctl
from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.ticket import Ticket


@pytest.fixture(scope="module")
def ticket(bare_bert: Path) -> Ticket:
    return Ticket.load(ticket_for(bare_bert, bare_bert.parent / "ticket"))


def sentences(model: Path) -> SentenceTransformer:
    encoder = Transformer(str(model))
    return SentenceTransformer(modules=[encoder, Pooling(16)], device="cpu")


def encoder_of(model: Any) -> Any:
    return model[0].auto_model


@pytest.mark.parametrize("how", ["callback", "apply"])
def test_the_trainer_of_sentence_transformers(
    how: str, bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    model = sentences(bare_bert)
    callbacks: list[Any] = [tamtctl.KeepZeros(ticket)]
    if how == "apply":
        assert len(ticket.apply(model, keep=True).applied) == 14
        callbacks = []
    pairs = [" ".join(tiny.WORDS[i : i + 4]) for i in range(16)]
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=50,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            save_strategy="no",
        ),
        train_dataset=Dataset.from_dict({"anchor": pairs, "positive": pairs[::-1]}),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=callbacks,
    )
    before = encoder_of(model).get_input_embeddings().weight.detach().clone()
    trainer.train()
    assert not torch.equal(encoder_of(model).get_input_embeddings().weight, before)
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert has_its_zeros(encoder_of(again), ticket)
    torch.testing.assert_close(
        again.encode(pairs, convert_to_tensor=True), model.encode(pairs, convert_to_tensor=True)
    )


def test_a_cross_encoder(bare_bert: Path, ticket: Ticket) -> None:
    model: Any = CrossEncoder(str(bare_bert), num_labels=1, device="cpu")
    assert ticket.apply(model, keep=True).kept is tamtctl.kept_zeros(model)
    model.train()
    optimizer = Lion(model.parameters())
    ids = torch.randint(5, 60, (4, 8))
    model.model(input_ids=ids).logits.sum().backward()
    optimizer.step()
    assert has_its_zeros(model.model, ticket)


def test_of_several_encoders_the_one_that_fits(
    bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "other", "bert", with_head=False, seed=7)

    def routed(query: Path, document: Path) -> Any:
        routes: Any = ([Transformer(str(model)), Pooling(16)] for model in (query, document))
        return SentenceTransformer(modules=[Router.for_query_document(*routes)], device="cpu")

    asymmetric = routed(other, bare_bert)
    assert ticket.apply(asymmetric, keep=True).applied
    document = asymmetric[0].sub_modules["document"]
    assert has_its_zeros(document[0].auto_model, ticket)
    with pytest.raises(TicketError, match=r"this SentenceTransformer holds 2 models .* fits 2"):
        ticket.apply(routed(bare_bert, bare_bert))
    with pytest.raises(TicketError, match="none is what the ticket is for"):
        ticket.apply(routed(other, other))
