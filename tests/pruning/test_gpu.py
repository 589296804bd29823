"""No step waits for a GPU, and its masks are those of a CPU.

Without a GPU the same code runs on torch's meta device, whose tensors have shapes but no numbers:
whoever looks at one, as a step that waits for it must, fails.
"""

from __future__ import annotations

import pytest
import tiny
import torch
from masks import magnitude_masks, start_of

from tamtctl.data.batch import Batch
from tamtctl.data.sequences import Blocks
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.selection import keep_count, keep_largest
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.trained.mask_training import MaskTraining

OBJECTIVES = pytest.mark.parametrize("objective", ["mlm", "kd", "mlm+kd"])


def mask_training(objective: str, compute: Compute) -> MaskTraining:
    model = tiny.build("bert")
    masks = magnitude_masks({n: p.detach() for n, p in maskable_matrices(model).items()}, 0.7)
    torch.nn.Module.to(model, compute.device)
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})
    ids = torch.randint(5, len(tiny.VOCABULARY), (2000,)).numpy().astype("<u2")
    config = SearchConfig(
        sparsity=0.7,
        model="tiny",
        corpus=("tiny",),
        objective=objective,
        steps=10,
        batch_size=4,
        micro_batch_size=2,
        sequence_length=16,
        learning_rate=5e-3,
    )
    return MaskTraining(config, compute, encoder, Blocks(ids, 16, [1], [2]), start_of(masks))


@OBJECTIVES
def test_no_step_looks_at_a_number(objective: str) -> None:
    training = mask_training(objective, Compute(torch.device("meta"), "fp32"))
    for step in range(2):
        losses = training.steps.backward(next(training.steps.batches()), training.taking_gradients)
        training._update(step)
    assert losses.keys() == set(objective.split("+"))
    with pytest.raises(RuntimeError, match="meta"):
        next(iter(losses.values())).item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@OBJECTIVES
def test_no_step_waits_for_the_device(objective: str) -> None:
    training = mask_training(objective, Compute.choose("cuda", "auto"))
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
        scores, weights = training.folded.scores[name].cpu(), training.folded.frozen[name].cpu()
        keep = keep_count(scores.numel(), 0.7)
        assert torch.equal(mask.cpu(), keep_largest(scores, keep, weights.abs()))
        assert torch.equal(training.folded.parameters[name].cpu(), weights * mask.cpu())
