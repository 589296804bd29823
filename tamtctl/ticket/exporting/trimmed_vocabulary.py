"""Trimming the vocabulary of an export to the tokens that a user's text uses.

The embedding is the larger part of a small encoder, and most of its rows are for words that a
user's texts do not have. The training part of a corpus decides which tokens stay; what that costs
is measured on the held-out part.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as InTurn
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.data.corpus import load_corpus
from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import base_encoder
from tamtctl.models.sentence_embeddings import SentencePipeline
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
            f"{self.kept:,} of {self.of:,} tokens are left: every single character, and those of "
            f"{self.corpus} but for its held-out part; that part, {self.measured_on}, has "
            f"{self.more_tokens:.1%} more tokens than before, and {self.unknown:.2%} are unknown "
            f"({self.unknown_before:.2%} before)"
        )


def trim_vocabulary(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    corpus: str | Sequence[str],
    pipeline: SentencePipeline | None = None,
) -> tuple[TrimmedTokenizer, TrimmedVocabulary, tuple[str, ...]]:
    """Trim a model, in place, and its tokenizer to the tokens that a corpus uses.

    Args:
        network: The model, with any head.
        tokenizer: Its tokenizer.
        corpus: The corpus, named as for a search. A tenth of its documents, or its held-out split,
            does not decide on tokens but is measured on.
        pipeline: How a sentence encoder takes texts: its prompts' tokens stay, too.

    Returns:
        The new tokenizer, the result, and notes on the corpus.

    Raises:
        CorpusError: The corpus cannot be read.
        ModelError: The model counts positions from an id, or gives other outputs after it.
    """
    is_lower = pipeline is not None and pipeline.lower_case
    reader = _lower_casing(tokenizer) if is_lower else tokenizer
    text = load_corpus(corpus, reader)
    used = {*np.unique(text.train).tolist(), *_of_prompts(reader, pipeline)}
    trimmed = TrimmedTokenizer.of(tokenizer, used)
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
    short = load_corpus(corpus, _lower_casing(trimmed.tokenizer) if is_lower else trimmed.tokenizer)
    result = TrimmedVocabulary(
        corpus=text.name,
        kept=len(trimmed.kept),
        of=size,
        measured_on=text.held_out_name,
        unknown_before=text.held_out_unknown,
        unknown=short.held_out_unknown,
        more_tokens=len(short.held_out) / len(text.held_out) - 1,
    )
    return trimmed, result, text.notes


def _lower_casing(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return a copy of a tokenizer that converts text to lower case first."""
    found = copy.deepcopy(tokenizer)
    inner = found.backend_tokenizer
    own = [inner.normalizer] if inner.normalizer else []
    inner.normalizer = InTurn([Lowercase(), *own])
    return found


def _of_prompts(
    tokenizer: PreTrainedTokenizerFast, pipeline: SentencePipeline | None
) -> Iterator[int]:
    """Yield the ids of all prompts' tokens, whatever text stands behind them."""
    prompts = {pipeline.prompt, *pipeline.prompts.values()} if pipeline else ()
    for prompt in filter(None, prompts):
        for text in ("", "a", " a"):
            yield from tokenizer(prompt + text, add_special_tokens=False).input_ids


def _outputs(network: PreTrainedModel, ids: NDArray[np.int64]) -> Tensor:
    """Return hidden states, or the logits of a masked-LM head, for tokens of shape (T,)."""
    runs = base_encoder(network) if network.get_output_embeddings() is None else network
    with torch.no_grad():
        outputs: Tensor = runs.eval()(input_ids=torch.from_numpy(ids).unsqueeze(0))[0]
    return outputs
