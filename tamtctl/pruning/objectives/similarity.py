"""Similarity: by how much the cosine of two rows' embeddings differs from the dense model's.

Relational distillation (Park et al., 2019, arXiv:1904.05068, §3.2, of distances and angles): not
where a sentence is embedded counts, but how near it is to the others of its batch.

Relations: take it where embeddings are compared with each other alone, and all of them are made by
the masked model. `embedding` also keeps them comparable with those that the dense model has made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.pruning.objectives.outputs import Outputs, all_rows, at_least_float32

blocks = all_rows


def loss(outputs: Outputs, batch: Batch) -> Tensor:
    """Return the absolute difference of the cosines of each row, mean over the other rows, (B,)."""
    assert outputs.embeddings is not None
    assert outputs.teacher_embeddings is not None
    student, teacher = map(_directions, (outputs.embeddings, outputs.teacher_embeddings))
    itself = torch.eye(len(student), dtype=torch.bool, device=student.device)
    total = (student @ student.T - teacher @ teacher.T).abs().masked_fill(itself, 0).sum(1)
    count = len(student) - 1
    if outputs.others is not None:
        others, of_teacher = map(_directions, outputs.others)  # each (n, D)
        far = (student @ others.T - teacher @ of_teacher.T).abs()  # (B, n)
        # The losses of these rows change with this one as much as its own does: the gradient of
        # both is taken here, for the others have none.
        total = total + (2 * far - far.detach()).sum(1)
        count += len(others)
    return total / max(count, 1)


def _directions(embeddings: Tensor) -> Tensor:
    return F.normalize(at_least_float32(embeddings), dim=1)
