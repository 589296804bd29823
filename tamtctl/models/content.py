"""A digest of a model's content: everything that its outputs depend on."""

from __future__ import annotations

import hashlib
import itertools
import json

from tamtctl.models.encoder import Encoder
from tamtctl.models.loading import NO_PART_OF_A_MODEL


def content_digest(encoder: Encoder, *, with_head: bool = True) -> str:
    """Return the hex SHA-256 of everything in a model and its tokenizer that losses depend on.

    A pooler that the checkpoint lacks is random, and not included.

    Args:
        encoder: The model.
        with_head: Whether to include the head that it was loaded with. Without, the digest covers
            what hidden states depend on, and is the same whether a head was loaded or not.
    """
    model = encoder.model if with_head else encoder.base
    left_out = frozenset() if with_head and encoder.pooler else encoder.unreached
    inside = "" if model is encoder.base else f"{model.base_model_prefix}."
    configuration = model.config.to_diff_dict()
    told = {key: v for key, v in configuration.items() if key not in NO_PART_OF_A_MODEL}
    tokenizer = (encoder.tokenizer.backend_tokenizer.to_str(), encoder.tokenizer.all_special_ids)
    digest = hashlib.sha256(json.dumps([told, tokenizer], sort_keys=True, default=str).encode())
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if name.removeprefix(inside) in left_out:
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
