"""Similarity: by how much the cosine of two rows' embeddings differs from the dense model's.

Relational distillation (Park et al., 2019, arXiv:1904.05068, §3.2, of distances and angles): it
does not matter where a sentence is embedded, only how near it is to the others of its batch.

Relations: take it if embeddings are only compared with each other, and the masked model makes all
of them. `embedding` also keeps them comparable with embeddings of the dense model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.pruning.objectives.outputs import Outputs, all_rows, at_least_float32

blocks = all_rows


def loss(outputs: Outputs, batch: Batch) -> Tensor:
    """Return each row's absolute difference of cosines, mean over the other rows, shape (B,)."""
    assert outputs.embeddings is not None
    assert outputs.teacher_embeddings is not None
    student, teacher = map(_directions, (outputs.embeddings, outputs.teacher_embeddings))
    itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
    difference = _cosines(student, student) - _cosines(teacher, teacher)  # (B, B)
    total = difference.abs().masked_fill(itself, 0).sum(1)
    count = len(student) - 1
    if outputs.others is not None:
        others, of_teacher = map(_directions, outputs.others)  # each (n, D)
        far = (_cosines(student, others) - _cosines(teacher, of_teacher)).abs()  # (B, n)
        # The other rows' losses depend on this row as much as its own loss does. They have no
        # gradient, so it is doubled here; the value counts once.
        total = total + (2 * far - far.detach()).sum(1)
        count += len(others)
    return total / max(count, 1)


def _cosines(some: Tensor, others: Tensor) -> Tensor:
    """Return the products of unit vectors (B, D) and (n, D), in their precision, (B, n)."""
    with torch.autocast(some.device.type, enabled=False):  # it would round them to bf16
        return some @ others.T


def _directions(embeddings: Tensor) -> Tensor:
    return F.normalize(at_least_float32(embeddings), dim=1)
