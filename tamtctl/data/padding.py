"""Rows of varying length in one batch: padded, and grouped so that little of it is padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.foundations.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Batches are cut from so many shuffled batches' worth of examples, sorted by length.
_GROUP = 50

IdArray = NDArray[np.int64]


def sorted_in_groups(order: IdArray, lengths: IdArray, batch_size: int) -> IdArray:
    """Return an order in which groups of several batches are sorted, the longest rows first.

    Args:
        order: Rows that are shuffled, shape (n,).
        lengths: Tokens of every row that there is.
        batch_size: Rows in a batch.
    """
    groups = [
        order[start : start + _GROUP * batch_size]
        for start in range(0, len(order), _GROUP * batch_size)
    ]
    if not groups:
        return order
    return np.concatenate([g[np.argsort(-lengths[g], kind="stable")] for g in groups])


def attended(lengths: IdArray) -> NDArray[np.bool_]:
    """Return where rows of these lengths have a token, padded to the longest, shape (B, T)."""
    mask: NDArray[np.bool_] = np.arange(lengths.max()) < lengths[:, None]
    return mask


def gathered(
    flat: NDArray[np.integer[Any]], starts: IdArray, lengths: IdArray, padding: int
) -> IdArray:
    """Return rows out of one flat array, padded to the longest of them, shape (B, T).

    Args:
        flat: All rows end to end, shape (tokens,).
        starts: Where each of them starts, shape (B,).
        lengths: How long each is, shape (B,); none is empty.
        padding: What stands behind the shorter ones.
    """
    is_token = attended(lengths)  # (B, T)
    places = starts[:, None] + np.where(is_token, np.arange(is_token.shape[1]), 0)
    rows: IdArray = np.where(is_token, flat[places], padding).astype(np.int64, copy=False)
    return rows


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that padding is made of.

    Raises:
        ModelError: The tokenizer has none.
    """
    if tokenizer.pad_token_id is None:
        raise ModelError("the tokenizer has no padding token; add one to its files")
    return int(tokenizer.pad_token_id)
