"""Trimming the vocabulary of an export to the tokens that a user's text uses.

The embedding is the larger part of a small encoder, and most of its rows are for words that a
user's texts do not have. The training part of a corpus decides which tokens stay; what that costs
is measured on the held-out part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.data.corpus import load_corpus
from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import base_encoder
from tamtctl.models.trimmed_tokenizer import TrimmedTokenizer
from tamtctl.models.vocabulary_rows import keep_rows
from tamtctl.ticket.exporting.reloading import are_close

_CHECKED = 16  # tokens of the text on which outputs before and after are compared


@dataclass(frozen=True)
class TrimmedVocabulary:
    """The result of trimming a vocabulary, and what that costs on held-out text.

    Attributes:
        corpus: The name of the corpus that decided which tokens stay.
        kept: How many tokens are left.
        of: How many rows the embedding had.
        measured_on: The name of the text that the following values were measured on.
        unknown_before: Share of unknown tokens with the whole vocabulary.
        unknown: Share of unknown tokens with the trimmed vocabulary.
        more_tokens: Growth of the number of tokens, as a share of the number before.
    """

    corpus: str
    kept: int
    of: int
    measured_on: str
    unknown_before: float
    unknown: float
    more_tokens: float

    @property
    def note(self) -> str:
        """A line on the result."""
        return (
            f"{self.kept:,} of {self.of:,} tokens are left, those of {self.corpus} and every "
            f"single character; {self.measured_on} has {self.more_tokens:.1%} more tokens for it, "
            f"and {self.unknown:.2%} unknown ones ({self.unknown_before:.2%} before)"
        )


def trim_vocabulary(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, corpus: str | Sequence[str]
) -> tuple[TrimmedTokenizer, TrimmedVocabulary]:
    """Trim a model, in place, and its tokenizer to the tokens that a corpus uses.

    Args:
        network: The model, with any head.
        tokenizer: Its tokenizer.
        corpus: The corpus, named as for a search. A tenth of its documents, or its held-out split,
            does not decide on tokens but is measured on.

    Returns:
        The new tokenizer, and the result.

    Raises:
        CorpusError: The corpus cannot be read.
        ModelError: The model counts positions from an id, or gives other outputs after it.
    """
    text = load_corpus(corpus, tokenizer)
    trimmed = TrimmedTokenizer.of(tokenizer, np.unique(text.train).tolist())
    size = network.config.vocab_size
    ids = np.array(text.train[:_CHECKED], dtype=np.int64)  # (T,)
    before = _outputs(network, ids)
    keep_rows(network, trimmed.kept)
    after = _outputs(network, np.searchsorted(trimmed.kept, ids))
    if before.shape[-1] != after.shape[-1]:  # logits, one for each token of the vocabulary
        before = before[..., list(trimmed.kept)]
    if not are_close(before, after):
        raise ModelError(
            f"{type(network).__name__} does not give the same outputs without the tokens that are "
            "left out; its vocabulary cannot be trimmed"
        )
    short = load_corpus(corpus, trimmed.tokenizer)
    return trimmed, TrimmedVocabulary(
        corpus=text.name,
        kept=len(trimmed.kept),
        of=size,
        measured_on=text.held_out_name,
        unknown_before=text.held_out_unknown,
        unknown=short.held_out_unknown,
        more_tokens=len(short.held_out) / len(text.held_out) - 1,
    )


def _outputs(network: PreTrainedModel, ids: NDArray[np.int64]) -> Tensor:
    """Return hidden states, or the logits of a masked-LM head, for tokens of shape (T,)."""
    runs = base_encoder(network) if network.get_output_embeddings() is None else network
    with torch.no_grad():
        outputs: Tensor = runs.eval()(input_ids=torch.from_numpy(ids).unsqueeze(0))[0]
    return outputs
