"""An encoder for mask training: which of its matrices can be masked, and its fingerprint.

Everything is found by structure, so that any encoder of `transformers` works: a *maskable matrix*
is the weight of an ``nn.Linear`` or of the input word embeddings inside ``model.base_model``. Names
are relative to the base encoder (``encoder.layer.0.attention.self.query.weight``), hence the same
for every head class. "Matrix" always means such a parameter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tamtctl.foundations.errors import UsageError
from tamtctl.models.fingerprints import combined_fingerprint, sha256_of_array

# Names of the tables of absolute positions in transformers.
_POSITION_TABLES = frozenset({"position_embeddings", "embed_positions"})


@dataclass(frozen=True)
class Encoder:
    """A pre-trained encoder in float32, with what mask training needs to know about it.

    Attributes:
        id: The Hub id or folder as the user gave it, or ``nano``.
        revision: The Hub commit it was loaded from; None for a folder.
        model: A ``…ForMaskedLM`` if loaded with its head, else the bare encoder; in eval mode.
        tokenizer: Its fast tokenizer.
        matrices: Name → parameter of the maskable matrices that hidden states depend on; they
            belong to ``model``, and are in module order.
        pooler: Name → weight of the pooler, which no hidden state depends on. Empty if the
            checkpoint has none; the random pooler that transformers then makes is ignored.
        unreached: Names of all parameters of ``base`` that no hidden state depends on, including
            those of a random pooler.
    """

    id: str
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    matrices: dict[str, nn.Parameter]
    pooler: dict[str, Tensor]
    unreached: frozenset[str] = frozenset()

    @property
    def base(self) -> PreTrainedModel:
        """The encoder without any head."""
        return base_encoder(self.model)

    @property
    def is_of_masked_text(self) -> bool:
        """Whether it was pre-trained to fill in masked tokens, and so has learnt the mask token.

        This follows from its configuration, whether its head was loaded or not.
        """
        named = self.model.config.architectures or ()
        ends = ("ForMaskedLM", "ForPreTraining")
        return self.tokenizer.mask_token_id is not None and any(n.endswith(ends) for n in named)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name → weight of every maskable matrix of the checkpoint, not copied; pooler last."""
        return {n: p.detach() for n, p in self.matrices.items()} | self.pooler

    @property
    def embeddings(self) -> frozenset[str]:
        """Names of the maskable matrices that words are looked up in."""
        return embedding_names(self.base) & self.matrices.keys()


def base_encoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the encoder inside any head class, or ``model`` itself if it has no head."""
    return cast(PreTrainedModel, model.base_model)


def with_shared_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model, whose modules may be changed; it shares all weights and buffers."""
    module = cast(nn.Module, model)
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return deepcopy(model, shared)


def maskable_matrices(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return name → parameter of every matrix that a mask may cover; tied ones once (TAMT, §3.1).

    These are the weights of all linear layers of the base encoder and its input word embeddings;
    not position embeddings, convolutions, LayerNorms, biases, or anything in a head.
    """
    base = base_encoder(model)
    maskable = {id(m.weight) for m in base.modules() if isinstance(m, nn.Linear)}
    maskable.add(id(base.get_input_embeddings().weight))
    return {name: p for name, p in base.named_parameters() if id(p) in maskable}


def embedding_names(model: PreTrainedModel) -> frozenset[str]:
    """Return the names of a model's maskable matrices that words are looked up in."""
    table = base_encoder(model).get_input_embeddings().weight
    return frozenset(name for name, p in maskable_matrices(model).items() if p is table)


def max_sequence_length(model: PreTrainedModel) -> int:
    """Return how many tokens an encoder can take at once, special tokens included.

    The limit is the smaller of the configuration's and that of the table of absolute positions,
    which is found by its name. If there is neither, the result is `sys.maxsize`.
    """
    configured = getattr(model.config, "max_position_embeddings", None)
    limits = [int(configured)] if configured and configured > 0 else []
    for name, module in base_encoder(model).named_modules():
        if name.rpartition(".")[2] in _POSITION_TABLES and hasattr(module, "weight"):
            padding = getattr(module, "padding_idx", None)
            # RoBERTa and its relatives count positions from after the padding's.
            skipped = 0 if padding is None else int(padding) + 1
            limits.append(int(module.weight.shape[0]) - skipped)
    return min(limits, default=sys.maxsize)


def check_length(length: int, model: PreTrainedModel, *, what: str, remedy: str = "give") -> None:
    """Refuse texts that are longer than a model can take.

    Args:
        length: Tokens of a text.
        model: The model, with any head.
        what: What set the length, such as ``--sequence-length``; an error begins with it.
        remedy: Words of the error between the problem and "at most" with the limit.

    Raises:
        UsageError: The length is above the model's limit.
    """
    if length > (longest := max_sequence_length(model)):
        raise UsageError(
            f"{what} {length} is more than the model can take; {remedy} at most {longest}"
        )


def fingerprint(
    weights: Mapping[str, Tensor], checksums: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Return the fingerprint of a set of matrices and the SHA-256 of each.

    A matrix is hashed as little-endian float32; the fingerprint is the SHA-256 of the sorted lines
    ``name shape sha256`` (shape as ``768x3072``, each line ended by a newline), in hex.

    Args:
        weights: Name → weight of every matrix.
        checksums: Name → SHA-256 of each weight, if it was computed before.
    """
    if checksums is None:
        checksums = {name: sha256_of_weight(weight) for name, weight in weights.items()}
    hashes = {name: checksums[name] for name in weights}
    return combined_fingerprint({n: tuple(w.shape) for n, w in weights.items()}, hashes), hashes


class Checksums(dict[str, str]):
    """Name → SHA-256 of a weight that does not change, computed when it is first asked for."""

    def __init__(
        self, weights: Mapping[str, Tensor], known: Mapping[str, str] | None = None
    ) -> None:
        """Prepare; nothing is hashed yet.

        Args:
            weights: Name → weight.
            known: Checksums of some of them that were computed before.
        """
        super().__init__(known or {})
        self._weights = weights

    def __missing__(self, name: str) -> str:
        """Compute, keep and return the checksum of a weight."""
        self[name] = sha256_of_weight(self._weights[name])
        return self[name]


def sha256_of_weight(weight: Tensor) -> str:
    """Return the hex SHA-256 of a weight as little-endian float32 in row-major order."""
    return sha256_of_array(weight.detach().to("cpu", torch.float32).numpy())
