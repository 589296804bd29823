"""Tagged words as inputs of a model: the first token of a word carries its tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamtctl.data.padded_batches import TEXTS_AT_ONCE, Encoded, Features, fill_empty, whole_lengths
from tamtctl.data.padding import IdArray, pad_id
from tamtctl.foundations.working import counted
from tamtctl.models.text_inputs import TextInputs

IGNORED = -100  # the label of tokens without a loss, as in transformers


class WordFeatures(Features):
    """Sentences as tokens.

    Attributes:
        labels: The tag's id at the first token of each word, `IGNORED` elsewhere, (n, longest).
        cut_words: How many words are cut off.
    """

    cut_words: int = 0


@dataclass(frozen=True)
class TaggedWords(Encoded):
    """Sentences as inputs of a model.

    Attributes:
        firsts: For each sentence, the index of the first token of every word, shape (words,); −1
            for a word that is cut off or has no token.
    """

    firsts: list[IdArray]


def tagged_words(
    sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], inputs: TextInputs
) -> TaggedWords:
    """Return sentences as inputs of a model.

    The words are joined by spaces, like the text that the model was trained on, and tokens are
    assigned to words by their characters. This works with tokenizers of every family.

    Args:
        sentences: The words of each sentence.
        tags: The id of each word's tag; empty for a sentence whose tags are not known.
        inputs: Turns texts into inputs of the model.
    """
    ids: list[list[int]] = []
    types: list[list[int]] = []
    firsts: list[IdArray] = []
    cut: dict[int, int] = {}  # row → tokens that it would have uncut
    texts = [" ".join(words) for words in sentences]
    starts = range(0, len(texts), TEXTS_AT_ONCE)
    for start in counted(starts, "tokenising", len(starts)):
        part = texts[start : start + TEXTS_AT_ONCE]
        encoded = inputs.tokenizer(
            part,
            truncation=True,
            max_length=inputs.max_length,
            return_offsets_mapping=True,
            return_token_type_ids=inputs.takes_types,
            return_attention_mask=False,
        )
        ids += encoded["input_ids"]
        types += encoded.get("token_type_ids", [])
        for i in range(len(part)):
            spans = np.array(encoded["offset_mapping"][i], np.int64).reshape(-1, 2)
            is_text = np.array([s == 0 for s in encoded.sequence_ids(i)], bool)
            firsts.append(first_tokens(sentences[start + i], spans, is_text))
        full = [i for i, own in enumerate(encoded["input_ids"]) if len(own) >= inputs.max_length]
        lengths = whole_lengths([[part[i] for i in full]], inputs.tokenizer)
        wholes = zip(full, lengths, strict=True)
        cut |= {start + i: length for i, length in wholes if length > inputs.max_length}
    fill_empty(ids, types, inputs.tokenizer)
    features = WordFeatures(
        ids,
        types if inputs.takes_types else None,
        _labels(tags, firsts, max(map(len, ids), default=0)),
        pad_id=pad_id(inputs.tokenizer),
        cut_rows=cut,
        longest=max(cut.values(), default=None),
    )
    features.cut_words = sum(_cut_words(firsts[row]) for row in cut)
    inputs.check_vocabulary(features.largest_id)
    return TaggedWords(features, firsts)


def first_tokens(
    words: Sequence[str], spans: NDArray[np.int64], is_text: NDArray[np.bool_]
) -> IdArray:
    """Return the index of the first token of each word, shape (words,); −1 without a token.

    Args:
        words: The words, which the text joins by spaces.
        spans: First and last character of each token in the text, shape (T, 2); with some
            tokenizers a token includes the space before it.
        is_text: Which tokens are of the text, and not special, shape (T,).
    """
    found = np.full(len(words), -1, np.int64)
    ends = np.cumsum([len(word) + 1 for word in words]) - 1  # (words,)
    begins = ends - [len(word) for word in words]
    solid = np.flatnonzero([bool(word.strip()) for word in words])
    tokens = np.flatnonzero(is_text & (spans[:, 1] > spans[:, 0]))
    places = np.searchsorted(ends[solid], spans[tokens, 0], side="right")
    tokens, places = tokens[places < len(solid)], places[places < len(solid)]
    owners = solid[places]
    is_inside = begins[owners] < spans[tokens, 1]
    owners, order = np.unique(owners[is_inside], return_index=True)
    found[owners] = tokens[is_inside][order]
    return found


def _labels(tags: Sequence[Sequence[int]], firsts: list[IdArray], longest: int) -> Tensor:
    labels = np.full((len(firsts), longest), IGNORED, np.int16)
    for row, (own, places) in enumerate(zip(tags, firsts, strict=True)):
        if len(own):
            labels[row, places[places >= 0]] = np.array(own)[places >= 0]
    return torch.from_numpy(labels)


def _cut_words(firsts: IdArray) -> int:
    read = np.flatnonzero(firsts >= 0)
    return len(firsts) - 1 - int(read[-1]) if len(read) else len(firsts)
