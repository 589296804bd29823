"""From texts to padded batches, grouped by length so that little is padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tamtctl.data.padding import IdArray, attended, gathered, pad_id, sorted_in_groups
from tamtctl.foundations.working import counted

TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class TaskBatch:
    """A batch of examples of similar length, padded to the longest.

    Attributes:
        rows: Index of each example in its `Features`, shape (B,).
        inputs: Keyword arguments of the model: ``input_ids``, ``attention_mask`` and, if the model
            takes them, ``token_type_ids``, each of shape (B, T).
        labels: Class ids or numbers of shape (B,), start and end tokens of shape (B, 2), or tags of
            shape (B, T') with T' ≥ T.
        tokens: Number of tokens, without padding.
        share: Its share of the examples of the step, below 1 if several processes take slices.
    """

    rows: Tensor
    inputs: dict[str, Tensor]
    labels: Tensor
    tokens: int
    share: float = 1.0

    @property
    def input_ids(self) -> Tensor:
        """Token ids, shape (B, T)."""
        return self.inputs["input_ids"]

    def to(self, device: torch.device) -> TaskBatch:
        """Return the batch on another device; pinned memory is copied asynchronously."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> TaskBatch:
        """Return the batch in pinned memory, from which a GPU copies asynchronously."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> TaskBatch:
        inputs = {name: change(values) for name, values in self.inputs.items()}
        return replace(self, inputs=inputs, labels=change(self.labels))


class Features:
    """Tokenised examples of varying length, concatenated in flat arrays.

    Attributes:
        lengths: Tokens of each example, shape (n,).
        labels: Label of each example, shape (n,) or (n, …); zeros if there are none.
        cut_rows: Indices of examples that were too long and are cut.
        longest: Tokens of the longest example before it was cut.
    """

    def __init__(
        self,
        input_ids: Sequence[Sequence[int]],
        token_type_ids: Sequence[Sequence[int]] | None,
        labels: Tensor,
        *,
        pad_id: int,
        cut_rows: Iterable[int] = (),
        longest: int | None = None,
    ) -> None:
        self.lengths: IdArray = np.fromiter(map(len, input_ids), np.int64, len(input_ids))
        self.labels = labels
        self.cut_rows = frozenset(cut_rows)
        self.longest = longest or int(self.lengths.max(initial=0))
        self._pads = {"input_ids": pad_id, "token_type_ids": 0}
        self._starts = np.cumsum(self.lengths) - self.lengths
        columns = {"input_ids": input_ids, "token_type_ids": token_type_ids}
        self._flat = {
            name: np.fromiter(itertools.chain.from_iterable(rows), np.int64, self.lengths.sum())
            for name, rows in columns.items()
            if rows is not None
        }

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def cut(self) -> int:
        """Number of examples that were too long and are cut."""
        return len(self.cut_rows)

    @property
    def largest_id(self) -> int:
        """The largest token id."""
        return int(self._flat["input_ids"].max(initial=0))

    def batch(self, rows: IdArray) -> TaskBatch:
        """Return the examples with these indices as a padded batch."""
        lengths, starts = self.lengths[rows], self._starts[rows]  # (B,)
        inputs = {
            name: torch.from_numpy(gathered(flat, starts, lengths, self._pads[name]))
            for name, flat in self._flat.items()
        }
        inputs["attention_mask"] = torch.from_numpy(attended(lengths).astype(np.int64))
        chosen = torch.from_numpy(rows)
        return TaskBatch(chosen, inputs, self.labels[chosen], int(lengths.sum()))

    def training_batches(
        self,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[TaskBatch]:
        """Yield endless batches, in a new order for each epoch.

        Every example occurs once in an epoch, and one batch of an epoch may be smaller. Each rank
        gets its slice of a batch; a rank whose slice is empty gets one example with share 0. A
        start step gives the same batches that a run from step 0 gets there.
        """
        first_epoch, skipped = divmod(start_step, math.ceil(len(self) / batch_size))
        for epoch in itertools.count(first_epoch):
            generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
            order = generator.permutation(len(self))
            ordered = sorted_in_groups(order, self.lengths, batch_size)
            batches = [
                ordered[start : start + batch_size] for start in range(0, len(order), batch_size)
            ]
            for number in generator.permutation(len(batches))[skipped:]:
                whole = batches[number]
                start, end = (len(whole) * r // world_size for r in (rank, rank + 1))
                own = self.batch(whole[start : max(end, start + 1)])
                yield replace(own, share=(end - start) / len(whole))
            skipped = 0

    def evaluation_batches(self, batch_size: int) -> Iterator[TaskBatch]:
        """Yield every example once, longest first, so that memory runs out at once or never."""
        order = np.argsort(-self.lengths, kind="stable")
        starts = range(0, len(order), batch_size)
        for start in counted(starts, "evaluating", len(starts)):
            yield self.batch(order[start : start + batch_size])


@dataclass(frozen=True)
class Encoded:
    """The examples of a task in the form that a model reads.

    Attributes:
        features: The inputs of the model.
    """

    features: Features


def text_features(
    texts: Sequence[Sequence[str]],
    labels: Tensor,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    takes_types: bool,
) -> Features:
    """Tokenise single texts or pairs; if a pair is too long, its longer text is cut first.

    Some tokenizers make no token of an empty text; such a text gets a single special token.

    Args:
        texts: One or two columns of n texts.
        labels: Label of each example, shape (n,) or (n, …).
        tokenizer: A fast tokenizer.
        max_length: Most tokens of an example, special tokens included.
        takes_types: Whether the model takes ``token_type_ids``, which distinguish the texts of a
            pair.
    """
    ids: list[list[int]] = []
    types: list[list[int]] = []
    whole: dict[int, int] = {}  # row → uncut tokens, for rows that may have been cut
    starts = range(0, len(texts[0]), TEXTS_AT_ONCE)
    for start in counted(starts, "tokenising", len(starts)):
        part = [list(column[start : start + TEXTS_AT_ONCE]) for column in texts]
        encoded = tokenizer(
            *part,
            truncation=True,
            max_length=max_length,
            return_token_type_ids=takes_types,
            return_attention_mask=False,
        )
        ids += encoded["input_ids"]
        types += encoded.get("token_type_ids", [])
        full = [i for i, own in enumerate(encoded["input_ids"]) if len(own) >= max_length]
        lengths = whole_lengths([[column[i] for i in full] for column in part], tokenizer)
        whole |= {start + i: length for i, length in zip(full, lengths, strict=True)}
    fill_empty(ids, types, tokenizer)
    return Features(
        ids,
        types if takes_types else None,
        labels,
        pad_id=pad_id(tokenizer),
        cut_rows=(row for row, length in whole.items() if length > max_length),
        longest=max(whole.values(), default=None),
    )


def whole_lengths(texts: list[list[str]], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the number of tokens of each text or pair, given in one or two columns, uncut."""
    if not texts[0]:
        return []
    return list(
        map(len, tokenizer(*texts, return_attention_mask=False, verbose=False)["input_ids"])
    )


def fill_empty(
    ids: list[list[int]], types: list[list[int]], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Give texts without tokens one special token, since no model can read an empty text.

    Args:
        ids: Token ids of each text; changed in place.
        types: Token types of each text, changed in place; empty if the model takes none.
        tokenizer: The tokenizer, for its special tokens.
    """
    blank = next(
        (
            token
            for token in (
                tokenizer.cls_token_id,
                tokenizer.sep_token_id,
                tokenizer.bos_token_id,
                tokenizer.eos_token_id,
                tokenizer.unk_token_id,
            )
            if token is not None
        ),
        pad_id(tokenizer),
    )
    for i, own in enumerate(ids):
        if not own:
            ids[i] = [blank]
            if types:
                types[i] = [0]
