"""Embedding: 1 − cosine between the masked and the dense model's sentence embeddings.

Distillation of sentence embeddings (Reimers et al., 2020, arXiv:2004.09813, §2, who take
squared distances): the student embeds a sentence where the teacher embeds it.

Relations: take it for models of sentence-transformers, of which only the embeddings are used. `kd`
holds every token of every layer, including what pooling averages out; their sum learns faster than
either.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.pruning.objectives.outputs import Outputs, all_rows, at_least_float32

blocks = all_rows


def loss(outputs: Outputs, batch: Batch) -> Tensor:
    """Return the distance of each row's embedding to the teacher's, shape (B,)."""
    assert outputs.embeddings is not None
    assert outputs.teacher_embeddings is not None
    student, teacher = at_least_float32(outputs.embeddings), outputs.teacher_embeddings
    return 1 - F.cosine_similarity(student, at_least_float32(teacher), dim=-1)
