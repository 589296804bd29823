"""Ordinary training: the weights learn, the head stays, and all of it is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_search import small_config

from tamtctl.data.batches import training_batches
from tamtctl.data.corpus import load_corpus
from tamtctl.data.noise import Noise
from tamtctl.foundations.devices import Compute
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText
from tamtctl.pruning.trained.objective_steps import optimizer_of
from tamtctl.pruning.trained.weight_training import WeightTraining
from tamtctl.training.schedules import linear_decay

CPU = Compute(torch.device("cpu"), "fp32")


def test_the_dense_model_learns_and_is_itself_again(tiny_model: Path, text_file: Path) -> None:
    encoder = load_encoder(str(tiny_model), with_head=True)
    before = {n: p.detach().clone() for n, p in encoder.model.named_parameters()}
    corpus = load_corpus((str(text_file),), encoder.tokenizer)
    config = small_config(tiny_model, text_file)
    text = corpus.training_text(16, encoder.tokenizer, name="text")
    cut = ProbeText.cut(
        corpus, encoder, sequence_length=16, noise=Noise.of(encoder.tokenizer), limit=8
    )
    training = WeightTraining(config, CPU, encoder, text)
    probe = MaskProbe(encoder, {}, (training.objective("mlm"), training.objective("kd")), CPU)
    dense = probe.losses_as_folded(cut)
    assert dense["kd"].mean == pytest.approx(0, abs=1e-6)
    with training.trained(20, 3e-3):
        learnt = probe.losses_as_folded(cut)
        now = dict(encoder.model.named_parameters())
        moved = {n for n, p in now.items() if n in before and not torch.equal(p, before[n])}
    assert learnt["mlm"].mean < dense["mlm"].mean
    assert learnt["kd"].mean > 0.001  # the teacher is the model as it was
    assert moved
    assert all(name.startswith("bert.") for name in moved)  # not the head
    with training.trained(20, 3e-3):
        assert probe.losses_as_folded(cut)["mlm"].mean == learnt["mlm"].mean  # from the start again
    for name, parameter in encoder.base.named_parameters():
        assert torch.equal(parameter, before[f"bert.{name}"])


def test_a_step_is_that_of_a_plain_loop(tiny_model: Path, text_file: Path) -> None:
    """Two steps by hand, on the batches of the search."""
    encoder = load_encoder(str(tiny_model), with_head=True)
    corpus = load_corpus((str(text_file),), encoder.tokenizer)
    config = small_config(tiny_model, text_file)
    text = corpus.training_text(16, encoder.tokenizer, name="text")
    training = WeightTraining(config, CPU, encoder, text)
    with training.trained(2, 1e-3):
        found = {n: p.detach().clone() for n, p in encoder.base.named_parameters()}

    model = load_encoder(str(tiny_model), with_head=True).model
    decoder = model.get_output_embeddings().weight.detach().clone()
    model.get_output_embeddings().weight = torch.nn.Parameter(decoder, requires_grad=False)
    weights = list(model.base_model.parameters())
    optimizer = optimizer_of(config, weights)
    batches = training_batches(text, 4, config.seed, noise=Noise.of(encoder.tokenizer))
    for step, batch in zip(range(2), batches, strict=False):
        logits = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.masked]
        torch.nn.functional.cross_entropy(logits, batch.labels).backward()
        optimizer.step(linear_decay(1e-3, step, 2))
        model.zero_grad(set_to_none=True)
    for name, parameter in model.base_model.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=1e-4, atol=1e-6)
