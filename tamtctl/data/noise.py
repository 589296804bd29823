"""The noise of masked language modelling, and the random numbers for order and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tamtctl.data.batch import Batch
from tamtctl.data.padding import IdArray
from tamtctl.data.sequences import special_tokens_around
from tamtctl.foundations.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The noise of BERT: 15 % of the tokens are targets; of these 80 % become [MASK], 10 % a random
# token, and 10 % stay as they are.
MASKED_SHARE = 0.15
_MASK_BELOW = 0.8 * MASKED_SHARE
_RANDOM_BELOW = 0.9 * MASKED_SHARE

NOISE, ORDER = 0, 1  # kinds of random numbers, independent under the same seed


def random_numbers(kind: int, seed: int, epoch: int, example: int = 0) -> np.random.Generator:
    """Return counter-based random numbers (Philox) that depend on nothing but the arguments."""
    # The counter's two low words count the drawn numbers; the two high ones hold example and kind.
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, example, kind], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@dataclass(frozen=True, eq=False)
class Noise:
    """The noise of masked language modelling, for one vocabulary.

    Attributes:
        mask_id: The id of the mask token.
        vocabulary_size: Random tokens are drawn from all ids below this, as is usual.
        is_special: True for ids that are never targets, shape (ids,), bool.
    """

    mask_id: int
    vocabulary_size: int
    is_special: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Derive the noise from a tokenizer.

        Raises:
            ModelError: The tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "the tokenizer has no mask token for masked language modelling; use --objective kd "
                "(evaluate: --task kd)"
            )
        ids = max(tokenizer.get_vocab().values()) + 1
        is_special = np.zeros(ids, bool)
        is_special[tokenizer.all_special_ids] = True
        for added in special_tokens_around(tokenizer):  # though the tokenizer may not name them
            is_special[added] = True
        return cls(tokenizer.mask_token_id, len(tokenizer), is_special)

    def noised(
        self,
        rows: IdArray,
        indices: IdArray,
        seed: int,
        epochs: ArrayLike,
        lengths: IdArray | None = None,
    ) -> Batch:
        """Return rows as a batch with noise that depends on nothing but the arguments.

        The noise of a row is keyed by (seed, epoch, index). It does not depend on the other rows of
        the batch, its padding, the device or the rank.

        Args:
            rows: Token ids, shape (B, T).
            indices: The index of each row in its text, shape (B,).
            seed: The seed of the noise, at least 0.
            epochs: The epoch of each row, shape (B,) or one for all.
            lengths: Number of tokens in each row, shape (B,); the rest is padding and never a
                target. None: nothing is padded.
        """
        uniform = np.ones(rows.shape)  # (B, T)
        keys = zip(np.broadcast_to(epochs, len(rows)).tolist(), indices.tolist(), strict=True)
        ends = [rows.shape[1]] * len(rows) if lengths is None else lengths.tolist()
        for row, (epoch, index), end in zip(uniform, keys, ends, strict=True):
            random_numbers(NOISE, seed, epoch, index).random(out=row[:end])
        masked = np.flatnonzero((uniform < MASKED_SHARE) & ~self.is_special[rows])  # (n,)
        labels = rows.ravel()[masked]
        draws = uniform.ravel()[masked]  # uniform in [0, 0.15)
        # The same draw is used again: within the interval for random tokens it is uniform, so its
        # position there picks the token.
        random_ids = (draws - _MASK_BELOW) / (_RANDOM_BELOW - _MASK_BELOW) * self.vocabulary_size
        random_ids = random_ids.clip(0, self.vocabulary_size - 1).astype(np.int64)
        input_ids = rows.copy()
        input_ids.ravel()[masked] = np.select(
            [draws < _MASK_BELOW, draws < _RANDOM_BELOW], [self.mask_id, random_ids], labels
        )
        noisy = Batch(*map(torch.from_numpy, (input_ids, masked, labels)))
        return noisy if lengths is None else noisy.padded_behind(lengths)
