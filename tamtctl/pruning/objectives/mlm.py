"""Masked language modelling: the cross entropy of the true token at each masked position.

The pre-training task of BERT (Devlin et al., 2019, arXiv:1810.04805), as TAMT-MLM trains for
(Liu et al., 2022, §3.3).

Relations: take it for a ticket that has to predict tokens. `kd` needs no masked-LM head, and keeps
the hidden states that embeddings are made of. Each term is best in its own loss.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.pruning.objectives.outputs import Outputs, at_least_float32, masked_tokens

blocks = masked_tokens


def loss(outputs: Outputs, batch: Batch) -> Tensor:
    """Return the cross entropy of each masked token in nats, shape (n,)."""
    assert outputs.logits is not None
    logits = at_least_float32(outputs.logits)  # (n, V)
    return F.cross_entropy(logits, batch.labels, reduction="none")
