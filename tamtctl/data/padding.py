"""Padding rows of varying length, and ordering them so that little is padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.foundations.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Examples are sorted by length within groups of this many batches.
_GROUP = 50

IdArray = NDArray[np.int64]


def sorted_in_groups(order: IdArray, lengths: IdArray, batch_size: int) -> IdArray:
    """Return an order that is sorted within groups of several batches, longest rows first.

    Args:
        order: Shuffled indices of rows, shape (n,).
        lengths: Tokens of every row of the text.
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
    """Return True at tokens and False at padding, (B, T), for rows of these lengths, (B,)."""
    mask: NDArray[np.bool_] = np.arange(lengths.max()) < lengths[:, None]
    return mask


def gathered(
    flat: NDArray[np.integer[Any]], starts: IdArray, lengths: IdArray, padding: int
) -> IdArray:
    """Return rows from one flat array, padded to the longest of them, shape (B, T).

    Args:
        flat: All rows, concatenated, shape (tokens,).
        starts: Where each wanted row starts, shape (B,).
        lengths: Length of each wanted row, shape (B,), at least 1.
        padding: The id that fills up shorter rows.
    """
    is_token = attended(lengths)  # (B, T)
    places = starts[:, None] + np.where(is_token, np.arange(is_token.shape[1]), 0)
    rows: IdArray = np.where(is_token, flat[places], padding).astype(np.int64, copy=False)
    return rows


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the padding token.

    Raises:
        ModelError: The tokenizer has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise ModelError("the tokenizer has no padding token; add one to its files")
    return int(tokenizer.pad_token_id)
