"""The start of pre-training: a new vocabulary and model, or weights in a folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertTokenizer, PreTrainedTokenizerBase

from tamtctl.data.text.documents import PYTHON_DOCS
from tamtctl.data.text.sources import open_source
from tamtctl.foundations.errors import ModelError
from tamtctl.models.loading import load_encoder

VOCABULARY_SIZE = 8192
VOCABULARY_TEXT = 40_000_000  # most characters of Wikipedia that the vocabulary is trained on
LONGEST_SEQUENCE = 512

INITIALISATION = 0.08  # from BERT's 0.02 a model this small stays a bag-of-words model for hours
QUIET = 0.25  # factor on words where the first heads look for positions, or they see only words
ATTENTION_SCALE = 1.8
OFFSETS = ((-1, 1, -2, 2), (-3, 3, 0, -4))  # where the heads of the first two layers look at first


def train_vocabulary(wikipedia: Sequence[str]) -> PreTrainedTokenizerBase:
    """Train a lower-cased WordPiece vocabulary on documentation and the start of Wikipedia."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=special, limit_alphabet=400, show_progress=False
    )
    tokenizer.train_from_iterator(_vocabulary_texts(wikipedia), trainer)
    return BertTokenizer(
        vocab=tokenizer.get_vocab(), do_lower_case=True, model_max_length=LONGEST_SEQUENCE
    )


def _vocabulary_texts(wikipedia: Sequence[str]) -> Iterator[str]:
    for source in open_source(PYTHON_DOCS):
        yield from (document.text for document in source.documents())
    characters = 0
    for source in (opened for name in wikipedia for opened in open_source(name)):
        for document in source.documents():
            yield document.text
            characters += len(document.text)
            if characters > VOCABULARY_TEXT:
                return


def new_model(vocabulary_size: int) -> BertForMaskedLM:
    """Build a 4 x 128 BERT whose first heads attend to fixed offsets.

    So word order matters from the first step on. With a standard initialisation, so small a model
    spends most of its training on discovering it.
    """
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=LONGEST_SEQUENCE,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=INITIALISATION,
    )
    model = BertForMaskedLM(config)
    half = config.hidden_size // 2
    frequencies = 10_000.0 ** (-torch.arange(half) / half)  # (H/2,), fast to slow
    angles = torch.arange(LONGEST_SEQUENCE)[:, None] * frequencies  # (P, H/2)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (P, H)
    layers: Any = model.bert.encoder.layer
    embeddings = model.bert.embeddings
    looked_at = slice(config.hidden_size // config.num_attention_heads)
    with torch.no_grad():
        # The RMS of a sine is 1/sqrt(2); this factor gives positions the weight of words.
        embeddings.position_embeddings.weight.copy_(waves * INITIALISATION * math.sqrt(2))
        embeddings.word_embeddings.weight[:, looked_at] *= QUIET
        embeddings.token_type_embeddings.weight[:, looked_at] *= QUIET
        for layer, offsets in zip(layers, OFFSETS, strict=False):
            attention = layer.attention.self
            _look_at_offsets(attention.query.weight, attention.key.weight, offsets, frequencies)
    return model


def _look_at_offsets(
    query: Tensor, key: Tensor, offsets: Sequence[int], frequencies: Tensor
) -> None:
    """Make head h at position i attend to position i + offsets[h].

    Keys are the fastest sine and cosine pairs of the position; queries are the same pairs rotated
    by the offset, so that their product is largest where the two positions differ by it.

    Args:
        query: Weight of the queries, shape (heads * D, H), overwritten.
        key: Weight of the keys, of the same shape, overwritten.
        offsets: The offset of each head.
        frequencies: Radians per position of the pairs, shape (H/2,).
    """
    size = len(query) // len(offsets)  # D
    sines = torch.arange(0, size, 2)
    cosines = sines + 1
    for head, offset in enumerate(offsets):
        turn = frequencies[: len(sines)] * offset  # (D/2,)
        rotation = torch.zeros(size, query.shape[1])  # (D, H)
        rotation[sines, sines] = rotation[cosines, cosines] = turn.cos()
        rotation[sines, cosines] = turn.sin()  # sin(a + t) = sin(a) cos(t) + cos(a) sin(t)
        rotation[cosines, sines] = -turn.sin()  # cos(a + t) = cos(a) cos(t) - sin(a) sin(t)
        rows = slice(head * size, (head + 1) * size)
        query[rows] = ATTENTION_SCALE * rotation
        key[rows] = ATTENTION_SCALE * torch.eye(size, query.shape[1])


def load_bert(name: str) -> tuple[BertForMaskedLM, PreTrainedTokenizerBase]:
    """Load a BERT with its masked-LM head, ready to train, and its tokenizer.

    Args:
        name: ``nano``, a folder (``vocab.txt`` alone is a tokenizer), or a Hub id.

    Raises:
        ModelError: There is no such model, it is not a BERT, or its tokenizer does not fit it.
    """
    encoder = load_encoder(name, with_head=True)
    model, tokenizer = encoder.model, encoder.tokenizer
    if not isinstance(model, BertForMaskedLM):
        raise ModelError(f"model {name!r} is a {type(model).__name__}; nano must be a BERT")
    if len(tokenizer) != model.config.vocab_size:
        raise ModelError(f"model {name!r}: tokenizer and weights have different vocabularies")
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model.train(), tokenizer
