"""Rows of their own length: what they hold, their order, their noise, their batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from tamtctl.data.batch import Batch
from tamtctl.data.batches import evaluation_batches, training_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Rows
from tamtctl.foundations.errors import CorpusError, ModelError, UsageError

CLS, SEP, PAD = 2, 3, 0
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=120)


def rows(lengths: list[int], longest: int = 32) -> Rows:
    """Rows of these lengths; the first token of each tells which one it is."""
    ends = np.cumsum(lengths)
    stream = np.random.default_rng(0).integers(5, 90, ends[-1])
    stream[ends - lengths] = 100 + np.arange(len(lengths))
    return Rows(stream.astype("<u2"), ends, longest, [CLS], [SEP], pad_id=PAD)


def names(batch: Batch) -> list[int]:
    return (batch.input_ids[:, 1] - 100).tolist()


def take(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(batches, count))


def test_rows_are_padded_and_cut() -> None:
    stream = np.arange(10, 25, dtype="<u2")
    some = Rows(stream, np.array([2, 3, 15]), 7, [CLS], [SEP], pad_id=PAD)
    assert some.lengths.tolist() == [4, 3, 7]
    assert some.rows(np.array([1, 0, 2])).tolist() == [
        [CLS, 12, SEP, PAD, PAD, PAD, PAD],
        [CLS, 10, 11, SEP, PAD, PAD, PAD],
        [CLS, 13, 14, 15, 16, 17, SEP],
    ]
    assert some.rows(np.array([1])).tolist() == [[CLS, 12, SEP]]
    assert [row.tolist() for row in some.each(np.array([1, 0]))] == [
        [CLS, 12, SEP],
        [CLS, 10, 11, SEP],
    ]
    facts = some.facts("lines", 0.25)
    assert (facts.count, facts.longest, facts.unknown) == (3, 7, 0.25)
    assert facts.mean_length == pytest.approx(14 / 3)
    assert facts.cut == pytest.approx(7 / 15)
    assert str(facts) == "3 lines of 4.7 tokens on average, 25.0 % unknown, 46.7 % cut off at 7"


def test_other_special_tokens() -> None:
    stream, ends = np.arange(10, 15), np.array([2, 5])
    bare = Rows(stream, ends, 8, [], [], pad_id=PAD)
    assert bare.rows(np.array([0, 1])).tolist() == [[10, 11, PAD], [12, 13, 14]]
    two = Rows(stream, ends, 8, [CLS], [SEP, CLS], pad_id=PAD)
    assert two.rows(np.array([0, 1])).tolist() == [
        [CLS, 10, 11, SEP, CLS, PAD],
        [CLS, 12, 13, 14, SEP, CLS],
    ]


def test_refused() -> None:
    with pytest.raises(CorpusError, match="the text has no text; give more"):
        Rows(np.empty(0, np.int64), np.empty(0, np.int64), 8, [CLS], [SEP], pad_id=PAD)
    with pytest.raises(UsageError, match="a sequence length of 2 leaves no room"):
        Rows(np.arange(3), np.array([3]), 2, [CLS], [SEP], pad_id=PAD)


def test_a_tokenizer_without_padding(bert_tokenizer: PreTrainedTokenizerBase) -> None:
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_object=bert_tokenizer.backend_tokenizer)
    with pytest.raises(ModelError, match="no padding token"):
        Rows.of(np.arange(3), np.array([3]), 8, plain)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(1, 9), seed=st.integers(0, 2**62))
def test_every_epoch_shows_every_row_once(lengths: list[int], batch_size: int, seed: int) -> None:
    some, epochs = rows(lengths), 3
    count = -(-epochs * len(lengths) // batch_size)
    batches = take(training_batches(some, batch_size, seed, noise=None), count)
    assert all(len(batch.input_ids) == batch_size for batch in batches)
    seen = [name for batch in batches for name in names(batch)]
    for epoch in range(epochs):
        part = seen[epoch * len(lengths) : (epoch + 1) * len(lengths)]
        assert sorted(part) == list(range(len(lengths)))


@settings(max_examples=40, deadline=None)
@given(
    lengths=LENGTHS,
    batch_size=st.integers(4, 9),
    world_size=st.integers(1, 4),
    start=st.integers(0, 30),
)
def test_steps_and_ranks_follow_from_the_seed_alone(
    lengths: list[int], batch_size: int, world_size: int, start: int
) -> None:
    some = rows(lengths)
    whole = take(training_batches(some, batch_size, 7, noise=None), start + 4)[start:]
    parts = [
        take(
            training_batches(
                rows(lengths), batch_size, 7, noise=None, start_step=start, rank=rank,
                world_size=world_size,
            ),
            4,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    for step, batch in enumerate(whole):
        own = [part[step] for part in parts]
        assert [name for part in own for name in names(part)] == names(batch)
        assert sum(part.tokens for part in own) == batch.tokens


def test_little_is_padding() -> None:
    lengths = np.random.default_rng(3).integers(1, 31, 4000).tolist()
    batches = take(training_batches(rows(lengths), 16, 1, noise=None), 250)
    positions = sum(batch.input_ids.numel() for batch in batches)
    tokens = sum(batch.tokens for batch in batches)
    assert tokens == sum(lengths) + 2 * len(lengths)
    assert tokens / positions > 0.97
    first, second = [int(b.input_ids.shape[1]) for b in batches[:2]]
    assert {first, second} != {32}  # batches of all lengths come in any order


def test_noise_is_that_of_the_row_whatever_it_is_padded_to(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    noise = Noise.of(bert_tokenizer)
    some = rows([30, 3, 17, 9, 1, 25])
    whole = next(iter(evaluation_batches(some, 6, noise=noise)))
    alone = list(evaluation_batches(some, 1, noise=noise))
    assert whole.attention_mask is not None
    width = whole.input_ids.shape[1]
    for number, one in enumerate(alone):
        length = one.input_ids.shape[1]
        assert torch.equal(whole.input_ids[number, :length], one.input_ids[0])
        assert (whole.input_ids[number, length:] == PAD).all()
        assert whole.attention_mask[number].tolist() == [1] * length + [0] * (width - length)
        own = whole.masked[whole.masked // width == number]
        assert (own % width).tolist() == one.masked.tolist()
    assert torch.equal(whole.labels, torch.cat([one.labels for one in alone]))


def test_micro_batches_are_as_long_as_their_longest_row(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    some = rows([30, 3, 17, 9, 1, 25])
    batch = next(iter(evaluation_batches(some, 6, noise=Noise.of(bert_tokenizer))))
    parts = batch.split(2)
    assert [part.input_ids.shape[1] for part in parts] == [32, 19, 5]
    assert sum(part.tokens for part in parts) == batch.tokens
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    for start, part in zip((0, 2, 4), parts, strict=True):
        clean = some.rows(np.argsort(-some.lengths, kind="stable")[start : start + 2])
        assert torch.equal(torch.from_numpy(clean).flatten()[part.masked], part.labels)
    (alone,) = batch.split(6)
    assert alone is batch


def test_evaluation_asks_rows_the_same_in_any_batch(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    some, noise = rows([30, 3, 17, 9, 1, 25, 8, 8]), Noise.of(bert_tokenizer)
    labels = [
        torch.cat([b.labels for b in evaluation_batches(some, size, noise=noise)]).tolist()
        for size in (1, 3, 8)
    ]
    assert labels[0] == labels[1] == labels[2]
    few = [name for b in evaluation_batches(some, 2, noise=None, limit=4) for name in names(b)]
    assert sorted(few) == [0, 2, 4, 6]
