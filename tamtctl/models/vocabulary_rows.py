"""Trimming a model's rows that belong to tokens: of its word embeddings and masked-LM decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import base_encoder


def keep_rows(network: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep only the rows of some tokens in a model, in place, and update its configuration.

    Args:
        network: The model, with any head; tied parameters stay tied.
        kept: The original id of each kept token, ascending.

    Raises:
        ModelError: The model counts positions from the id of padding, which would change.
    """
    table = cast(nn.Embedding, network.get_input_embeddings())
    size = table.num_embeddings
    new = {old: place for place, old in enumerate(kept)}
    _check_padding(network, table, new)
    rows = torch.tensor(kept)
    encoder = set(cast(nn.Module, base_encoder(network)).modules())
    ends = {table, network.get_output_embeddings()}
    cut: dict[int, nn.Parameter] = {}  # by id, so that tied ones stay tied
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            is_bias = name == "bias" and module not in encoder and len(parameter) == size
            if module in ends or is_bias:
                if id(parameter) not in cut:
                    left = parameter.detach()[rows].clone()  # (kept, …)
                    cut[id(parameter)] = nn.Parameter(left, parameter.requires_grad)
                setattr(module, name, cut[id(parameter)])
    table.num_embeddings = len(kept)
    if table.padding_idx is not None:
        table.padding_idx = new.get(table.padding_idx)  # None if it was no token of the tokenizer
    decoder: Any = network.get_output_embeddings()
    if isinstance(decoder, nn.Linear):
        decoder.out_features = len(kept)
    _renumber(network.config, new)
    network.config.vocab_size = len(kept)


def _check_padding(network: PreTrainedModel, table: nn.Embedding, new: dict[int, int]) -> None:
    """Refuse to change the id of padding if positions begin after it, as RoBERTa's do."""
    for module in network.modules():
        padding = getattr(module, "padding_idx", None)
        if module is not table and isinstance(padding, int) and new.get(padding) != padding:
            raise ModelError(
                f"{type(network).__name__} counts positions from the id of padding, {padding}, "
                "which a trimmed vocabulary would move; its vocabulary cannot be trimmed"
            )


def _renumber(config: Any, new: dict[int, int]) -> None:
    """Renumber the special tokens of a configuration; a removed one becomes None."""
    for name, value in list(config.to_dict().items()):
        if not name.endswith("_token_id") or value is None:
            continue
        if isinstance(value, list):
            setattr(config, name, [new[old] for old in value if old in new])
        else:
            setattr(config, name, new.get(value))
