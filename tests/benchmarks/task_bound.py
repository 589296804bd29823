"""Makes a ticket that knows its task: the upper bound that task-agnostic tickets are held against.

The dense model is fine-tuned on the task. A weight counts as much as the fine-tuned model's loss is
estimated to rise without it, w² · Σ g² over the labelled training examples (the diagonal of the
empirical Fisher information, Theis et al., 2018, arXiv:1801.05787, §3.1), and every matrix keeps
the same share. Give the ticket to ``compare`` beside others: it is worth nothing on another task.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor
from transformers import AutoModelForSequenceClassification

import tamtctl
from tamtctl.foundations.selection import keep_largest
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.loading import load_tokenizer
from tamtctl.models.text_inputs import TextInputs
from tamtctl.pruning.one_shot import keep_counts
from tamtctl.pruning.sparsities import check_sparsity
from tamtctl.tasks.finetuning.requested_run import open_data
from tamtctl.tasks.finetuning.run_examples import RunExamples
from tamtctl.tasks.kinds.code import kind_of


def main() -> bool:
    """Fine-tune, rank the weights, and write the ticket."""
    parser = argparse.ArgumentParser("task_bound", description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--task", required=True, help="as in finetune, not of spans or words")
    parser.add_argument("--data-dir", help="as in finetune")
    parser.add_argument("--train", help="labelled examples of your own task, as in finetune")
    parser.add_argument("--dev", help="as in finetune")
    parser.add_argument("--text-column", action="append", default=[])
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--limit", type=int, help="so many training examples")
    parser.add_argument("--sparsity", type=float, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--to", type=Path, required=True, help="the ticket's folder")
    told = parser.parse_args()
    check_sparsity(told.sparsity)
    config = tamtctl.FinetuneConfig(
        task=told.task, model=told.model, dense=True, data_dir=told.data_dir, train=told.train,
        dev=told.dev, text_columns=told.text_column or ("text",), label_column=told.label_column,
        limit=told.limit, threads=told.threads,
    )  # fmt: skip
    tuned = tamtctl.finetune(config)
    importance = _importance(config, tuned.checkpoint[0])
    counts = keep_counts(importance, told.sparsity)
    masks = {name: keep_largest(scores, counts[name]) for name, scores in importance.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mask.pt"
        torch.save(masks, file)
        tamtctl.import_ticket(file, told.to, model=told.model, method=f"Fisher of {told.task}")
    Console().print(f"{told.to}: dense {tuned.metric} {tuned.mean:.3f}, sparsity {told.sparsity:g}")
    return True


def _importance(config: tamtctl.FinetuneConfig, checkpoint: Path) -> dict[str, Tensor]:
    """Return name → w² · Σ g² of every matrix of a checkpoint, g the gradient of one example."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    data = open_data(config)
    kind = kind_of(data.task)
    inputs = TextInputs.of(model, load_tokenizer(config.model or "nano"), data.task.max_length)
    features = kind.encode(inputs, RunExamples.of(config, data).train).features
    matrices = maskable_matrices(model)
    squares = {name: torch.zeros_like(matrix) for name, matrix in matrices.items()}
    for batch in features.evaluation_batches(batch_size=1):
        model.zero_grad()
        kind.loss(model, batch).backward()
        for name, matrix in matrices.items():
            assert matrix.grad is not None
            squares[name].addcmul_(matrix.grad, matrix.grad)
    return {name: w.detach().square() * squares[name] for name, w in matrices.items()}
