"""Questions with overlapping windows of their contexts, as inputs of a model (as in BERT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from tamtctl.data.padded_batches import TEXTS_AT_ONCE, Encoded, Features, fill_empty
from tamtctl.data.padding import IdArray, pad_id
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.working import counted
from tamtctl.tasks.examples import Answers

_MAX_QUESTION = 64  # tokens of a question that are read, as in BERT


@dataclass(frozen=True)
class Windows(Encoded):
    """Questions with the windows of their contexts; a long context has several.

    Attributes:
        features: Question and window. The labels, shape (windows, 2), are the first and last token
            of the first accepted answer, or (0, 0) if it is not in the window.
        examples: The index of each window's question, shape (windows,).
        offsets: For each window, the first and last character of its tokens in the context, or
            (0, 0) for tokens outside the context, shape (T, 2).
    """

    examples: IdArray
    offsets: list[NDArray[np.int32]]


def span_windows(
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[Answers],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    stride: int,
    takes_types: bool,
) -> Windows:
    """Cut contexts into overlapping windows that follow the question (BERT's ``doc_stride``).

    Args:
        questions: The questions; each is cut after its 64th token.
        contexts: One for each question.
        answers: One for each question; empty if it is not known.
        tokenizer: A fast tokenizer.
        max_length: Tokens of question, window and special tokens together.
        stride: Tokens from the start of one window to the next.
        takes_types: Whether the model takes ``token_type_ids``.

    Raises:
        UsageError: ``max_length`` leaves too little room for a window.
    """
    specials = tokenizer.num_special_tokens_to_add(pair=True)
    shortened, sizes = _shortened(questions, tokenizer, min(_MAX_QUESTION, max_length // 3))
    ids: list[list[int]] = []
    types: list[list[int]] = []
    labels: list[tuple[int, int]] = []
    owners: list[int] = []
    offsets: list[NDArray[np.int32]] = []
    # Questions of equal length go together, as the overlap of windows depends on it.
    for size in counted(sorted(set(sizes)), "tokenising", len(set(sizes))):
        room = max_length - specials - size
        if room < 8:
            raise UsageError(f"--max-length {max_length} leaves no room for a context; give more")
        members = [i for i, other in enumerate(sizes) if other == size]
        for start in range(0, len(members), TEXTS_AT_ONCE):
            part = members[start : start + TEXTS_AT_ONCE]
            encoded = tokenizer(
                [shortened[i] for i in part],
                [contexts[i] for i in part],
                truncation="only_second",
                max_length=max_length,
                stride=max(0, room - stride),
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_token_type_ids=takes_types,
                return_attention_mask=False,
            )
            ids += encoded["input_ids"]
            types += encoded.get("token_type_ids", [])
            for window, member in enumerate(encoded["overflow_to_sample_mapping"]):
                is_context = np.array([s == 1 for s in encoded.sequence_ids(window)], bool)
                spans = np.array(encoded["offset_mapping"][window], np.int32).reshape(-1, 2)
                spans[~is_context] = 0
                owners.append(part[member])
                offsets.append(spans)
                labels.append(_span_label(spans, answers[part[member]]))
    for i, own in enumerate(ids):
        if not own:  # neither question nor context has a token
            offsets[i] = np.zeros((1, 2), np.int32)
    fill_empty(ids, types, tokenizer)
    order = np.argsort(owners, kind="stable")
    features = Features(
        [ids[i] for i in order],
        [types[i] for i in order] if takes_types else None,
        torch.tensor([labels[i] for i in order]),
        pad_id=pad_id(tokenizer),
        cut_rows=(
            row
            for row, (short, question) in enumerate(zip(shortened, questions, strict=True))
            if short != question
        ),
    )
    return Windows(features, np.array(owners)[order], [offsets[i] for i in order])


def _shortened(
    questions: Sequence[str], tokenizer: PreTrainedTokenizerFast, longest: int
) -> tuple[list[str], list[int]]:
    """Return the questions cut after their ``longest``-th token, and how many tokens each has."""
    texts = list(questions)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    for i, spans in enumerate(encoded["offset_mapping"]):
        if len(spans) > longest:
            texts[i] = texts[i][: spans[longest - 1][1]]
    sizes = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return texts, sizes


def _span_label(spans: NDArray[np.int32], answers: Answers) -> tuple[int, int]:
    """Return the first and last token of the first answer, (0, 0) if it is not all in a window."""
    if not answers.starts:
        return 0, 0
    start, end = answers.starts[0], answers.starts[0] + len(answers.texts[0])
    inside = np.flatnonzero((spans[:, 1] > start) & (spans[:, 0] < end))
    context = np.flatnonzero(spans[:, 1])
    if not len(inside) or spans[context[0], 0] > start or spans[context[-1], 1] < end:
        return 0, 0
    return int(inside[0]), int(inside[-1])
