"""No step waits for a GPU, and its masks are those of a CPU.

Without a GPU the same code runs on torch's meta device, whose tensors have shapes but no numbers:
whoever looks at one, as a step that waits for it must, fails.
"""

from __future__ import annotations

import pytest
import tiny
import torch
from masks import start_of

from tamtctl.data.batch import Batch
from tamtctl.data.sequences import Blocks
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.selection import keep_largest
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.trained.mask_training import MaskTraining

TRAININGS = pytest.mark.parametrize(
    ("objective", "pattern"),
    [("mlm", UNSTRUCTURED), ("kd", UNSTRUCTURED), ("mlm+kd", UNSTRUCTURED)]
    + [("mlm", pattern) for pattern in ("2:4", "block:4x4", "neurons", "heads:4")],
)


def mask_training(
    objective: str, pattern: str, compute: Compute, *, dropout: bool = True
) -> MaskTraining:
    model = tiny.build("bert")
    weights = {n: p.detach() for n, p in maskable_matrices(model).items()}
    keep = keep_counts(weights, 0.5, pattern, {"embeddings.word_embeddings.weight"})
    masks = one_shot_masks("magnitude", Context(weights=weights), keep, pattern)
    torch.nn.Module.to(model, compute.device)
    matrices = {n: p for n, p in maskable_matrices(model).items() if n in keep}
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), matrices, {})
    ids = torch.randint(5, len(tiny.VOCABULARY), (2000,)).numpy().astype("<u2")
    config = SearchConfig(
        sparsity=0.5,
        pattern=pattern,
        model="tiny",
        corpus=("tiny",),
        objective=objective,
        steps=10,
        batch_size=4,
        micro_batch_size=2,
        sequence_length=16,
        learning_rate=5e-3,
        dropout=dropout,
    )
    return MaskTraining(config, compute, encoder, Blocks(ids, 16, [1], [2]), start_of(masks))


@TRAININGS
def test_no_step_looks_at_a_number(objective: str, pattern: str) -> None:
    training = mask_training(objective, pattern, Compute(torch.device("meta"), "fp32"))
    for step in range(2):
        losses = training.steps.backward(next(training.steps.batches()), training.taking_gradients)
        training._update(step)
    assert losses.keys() == set(objective.split("+"))
    with pytest.raises(RuntimeError, match="meta"):
        next(iter(losses.values())).item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@TRAININGS
def test_no_step_waits_for_the_device(objective: str, pattern: str) -> None:
    training = mask_training(objective, pattern, Compute.choose("cuda", "auto"))
    batches: list[Batch] = [next(training.steps.batches()).pin_memory() for _ in range(5)]
    try:
        for step, batch in enumerate(batches):
            if step == 2:  # the first ones set things up
                torch.cuda.set_sync_debug_mode("error")
            training.steps.backward(batch, training.taking_gradients)
            training._update(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, mask in training.masks.items():
        weights = training.folded.frozen[name].cpu()
        assert torch.equal(training.folded.parameters[name].cpu(), weights * mask.cpu())
        if pattern == UNSTRUCTURED:
            scores = training.folded.scores[name].cpu()
            keep = keep_count(scores.numel(), 0.5)
            assert torch.equal(mask.cpu(), keep_largest(scores, keep, weights.abs()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@TRAININGS
def test_score_gradients_are_those_of_a_cpu(objective: str, pattern: str) -> None:
    def gradients(device: str) -> dict[str, torch.Tensor]:
        compute = Compute.choose(device, "fp32")
        training = mask_training(objective, pattern, compute, dropout=False)
        training.steps.backward(next(training.steps.batches()), training.taking_gradients)
        training.folded.set_score_gradients()
        found = {name: one.grad for name, one in training.folded.scores.items()}
        return {name: gradient.cpu() for name, gradient in found.items() if gradient is not None}

    expected, found = gradients("cpu"), gradients("cuda")
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() < 1e-3 * gradient.norm(), name
