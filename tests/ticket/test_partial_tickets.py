"""Tickets that cover only some matrices: the linear layers, the attention, all but the pooler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from command_line import Run
from partial_tickets import COVERED, partial
from transformers import AutoModelForMaskedLM

from tamtctl.models.encoder import maskable_matrices
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize("encoding", ["bits", "delta"])
@pytest.mark.parametrize("kind", COVERED)
def test_what_a_ticket_does_not_cover_stays_dense(
    kind: str, encoding: str, run: Run, tiny_model: Path, text_file: Path
) -> None:
    """Its loss is that of the checkpoint with zeros, which knows nothing of tickets."""
    ticket = partial(tiny_model, kind, "partial", encoding)
    assert run("export", ticket, "--output-dir", "zeros").code == 0
    zeros, pre_trained = (
        maskable_matrices(AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32))
        for folder in ("zeros", tiny_model)
    )
    for name, weight in zeros.items():
        is_pruned = bool((weight == 0).sum() >= weight.numel() // 2)
        assert is_pruned == COVERED[kind](name)
        assert is_pruned or torch.equal(weight, pre_trained[name])
    for task, dense in (("mlm", []), ("kd", ["--model", tiny_model])):
        options = ["--task", task, "--corpus", text_file, "--sequence-length", "16", "--json"]
        of_ticket = run("evaluate", ticket, *options)
        of_zeros = run("evaluate", "zeros", *options, *dense)
        assert of_ticket.code == of_zeros.code == 0, of_ticket.err + of_zeros.err
        scores = [json.loads(done.out)["score"] for done in (of_ticket, of_zeros)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


@pytest.mark.parametrize("objective", ["mlm", "kd"])
def test_a_search_goes_on_from_a_partial_ticket(
    objective: str, run: Run, tiny_model: Path, text_file: Path
) -> None:
    ticket = partial(tiny_model, "attention", "start")
    done = run(
        *f"search --sparsity 0.5 --objective {objective} --recipe nano --init {ticket}".split(),
        *"--steps 8 --sequence-length 16 --learning-rate 5e-3 --device cpu".split(),
        *("--model", tiny_model, "--corpus", text_file, "--output-dir", "run"),
    )
    assert done.code == 0, done.err
    assert "--init start masks 8 of 13 matrices, and so will the search" in done.err
    found, start = Ticket.load("run/ticket"), Ticket.load(ticket)
    assert found.parameters.keys() == start.parameters.keys()
    assert all(entry.kept == entry.numel // 2 for entry in found.parameters.values())
    assert found.metrics["flips"] > 0
    refused = run("search", "--sparsity", "0.5", "--init", ticket, "--model", "nano", "--dry-run")
    assert refused.code == 1
    assert "give --init a ticket of the same model" in refused.err


def test_another_model_is_refused_by_the_matrix_that_differs(
    run: Run, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    ticket = partial(tiny_model, "linear", "partial")
    other = AutoModelForMaskedLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight.add_(1)  # of which the ticket says nothing
    other.save_pretrained("other")
    tiny.tokenizer().save_pretrained("other")
    words = ["evaluate", ticket, "--model", "other", "--task", "mlm", "--corpus", text_file]
    assert run(*words, "--sequence-length", "16").code == 0
    with torch.no_grad():
        other.bert.encoder.layer[1].output.dense.weight[0, 0].add_(1)
    other.save_pretrained("other")
    refused = run(*words, "--sequence-length", "16")
    assert refused.code == 1
    assert "encoder.layer.1.output.dense.weight of model 'other' does not hold" in refused.err
    assert refused.err.count("\n") == 1
