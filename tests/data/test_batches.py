from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tamtctl.data.batch import Batch
from tamtctl.data.batches import evaluation_batches, prefetched, training_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Blocks, special_tokens_around
from tamtctl.foundations.errors import CorpusError, ModelError, UsageError

CLS, SEP, MASK = 2, 3, 4


@pytest.fixture
def noise(bert_tokenizer: PreTrainedTokenizerBase) -> Noise:
    return Noise.of(bert_tokenizer)


def blocks(count: int, length: int = 32) -> Blocks:
    """Blocks whose tokens are all different from special ones, with a ragged tail of one."""
    stream = np.random.default_rng(0).integers(5, 90, count * (length - 2) + 1).astype("<u2")
    return Blocks(stream, length, [CLS], [SEP])


def same(one: Batch, two: Batch) -> bool:
    pairs = ((getattr(one, name), getattr(two, name)) for name in vars(one))
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


def take(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(batches, count))


def test_blocks_cut_the_stream(bert_tokenizer: PreTrainedTokenizerBase) -> None:
    stream = np.arange(10, 33, dtype="<u2")
    cut = Blocks.of(stream, 7, bert_tokenizer)
    assert len(cut) == 4  # of five tokens each; three are left over
    assert cut[0].tolist() == [CLS, 10, 11, 12, 13, 14, SEP]
    rows = cut.rows(np.array([3, 1]))
    assert rows.dtype == np.int64
    assert rows.tolist() == [
        [CLS, 25, 26, 27, 28, 29, SEP],
        [CLS, 15, 16, 17, 18, 19, SEP],
    ]
    assert Blocks(stream, 5, [], []).rows(np.array([0])).tolist() == [[10, 11, 12, 13, 14]]
    with pytest.raises(IndexError):
        cut[4]


def test_special_tokens_come_from_the_tokenizer(bert_tokenizer: PreTrainedTokenizerBase) -> None:
    assert special_tokens_around(bert_tokenizer) == ([CLS], [SEP])


def test_too_short() -> None:
    with pytest.raises(CorpusError, match=r"5 tokens are less than a block of 6 .*give more text"):
        Blocks(np.arange(5), 8, [CLS], [SEP])
    with pytest.raises(UsageError, match=r"sequence length of 2 leaves no room"):
        Blocks(np.arange(5), 2, [CLS], [SEP])


def test_noise_is_that_of_bert(noise: Noise) -> None:
    many = blocks(4000)
    indices = np.arange(len(many))
    rows = many.rows(indices)
    batch = noise.noised(rows, indices, seed=1, epochs=0)
    clean, noisy = torch.from_numpy(rows).flatten(), batch.input_ids.flatten()
    assert batch.input_ids.shape == (4000, 32)
    assert torch.equal(batch.labels, clean[batch.masked])
    untouched = torch.ones_like(clean, dtype=torch.bool)
    untouched[batch.masked] = False
    assert torch.equal(noisy[untouched], clean[untouched])
    assert not {CLS, SEP} & set(batch.labels.tolist())
    assert torch.equal(batch.masked, batch.masked.sort().values)

    targets = 4000 * 30
    assert len(batch.masked) / targets == pytest.approx(0.15, abs=0.005)
    seen = noisy[batch.masked]
    assert (seen == MASK).float().mean().item() == pytest.approx(0.8, abs=0.015)
    vocabulary = noise.vocabulary_size
    kept = 0.1 + 0.1 / vocabulary
    assert (seen == batch.labels).float().mean().item() == pytest.approx(kept, abs=0.01)
    replaced = seen[(seen != MASK) & (seen != batch.labels)]
    counts = torch.bincount(replaced, minlength=vocabulary).float()
    assert len(counts) == vocabulary  # nothing beyond
    expected = len(replaced) / vocabulary
    assert counts[:MASK].sum() > 0  # as in the field, any token may come
    others = torch.cat([counts[:MASK], counts[MASK + 1 :]])
    chi_square = ((others - expected) ** 2 / expected).sum().item()
    assert chi_square / vocabulary < 1.5


def test_special_tokens_inside_the_text_are_no_targets(noise: Noise) -> None:
    stream = np.array([MASK, 1, CLS, SEP, 50, 51] * 1000)
    rows = Blocks(stream, 8, [CLS], [SEP]).rows(np.arange(1000))
    assert set(noise.noised(rows, np.arange(1000), 0, 0).labels.tolist()) == {50, 51}


def test_noise_is_keyed_by_seed_epoch_and_example(noise: Noise) -> None:
    some = blocks(20)
    indices = np.arange(20)
    whole = noise.noised(some.rows(indices), indices, seed=3, epochs=2)
    order = np.array([7, 19, 0])
    part = noise.noised(some.rows(order), order, seed=3, epochs=np.array([2, 2, 2]))
    assert torch.equal(part.input_ids, whole.input_ids[order])
    for seed, epoch in ((4, 2), (3, 1)):
        assert not same(whole, noise.noised(some.rows(indices), indices, seed, epoch))
    twins = noise.noised(some.rows(np.array([5, 5])), np.array([5, 6]), seed=3, epochs=2)
    assert not torch.equal(twins.input_ids[0], twins.input_ids[1])


def test_a_batch_without_targets(noise: Noise) -> None:
    rows = np.array([[CLS, SEP]])
    batch = noise.noised(rows, np.array([0]), 0, 0)
    assert batch.input_ids.tolist() == rows.tolist()
    assert batch.masked.shape == batch.labels.shape == (0,)
    assert batch.masked.dtype == batch.labels.dtype == torch.int64


def test_an_epoch_shows_every_block_once_in_a_new_order() -> None:
    some = blocks(10)
    seen = torch.cat([b.input_ids for b in take(training_batches(some, 4, 0, noise=None), 5)])
    first, second = (sorted(map(tuple, seen[i : i + 10].tolist())) for i in (0, 10))
    everything = sorted(map(tuple, some.rows(np.arange(10)).tolist()))
    assert first == second == everything
    assert not torch.equal(seen[:10], seen[10:])
    other = torch.cat([b.input_ids for b in take(training_batches(some, 4, 1, noise=None), 5)])
    assert not torch.equal(seen, other)


def test_fewer_blocks_than_a_batch(noise: Noise) -> None:
    batch = next(training_batches(blocks(3), 8, 0, noise=noise))
    assert batch.input_ids.shape == (8, 32)
    # The same block comes again with the noise of another epoch.
    assert len(torch.unique(batch.input_ids, dim=0)) == 8


@pytest.mark.parametrize("start", [1, 4, 17])
def test_starting_at_a_step_is_going_on(noise: Noise, start: int) -> None:
    whole = take(training_batches(blocks(10), 4, 0, noise=noise), 20)
    rest = take(training_batches(blocks(10), 4, 0, noise=noise, start_step=start), 20 - start)
    assert all(map(same, whole[start:], rest))


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_share_the_batch(noise: Noise, world_size: int) -> None:
    whole = take(training_batches(blocks(7), 5, 0, noise=noise), 6)
    ranks = [
        take(training_batches(blocks(7), 5, 0, noise=noise, rank=r, world_size=world_size), 6)
        for r in range(world_size)
    ]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part.input_ids for part in parts]), batch.input_ids)
        assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
        assert all(len(part.input_ids) > 0 for part in parts)


def test_clean_batches_have_no_targets() -> None:
    some = blocks(3)
    (batch,) = evaluation_batches(some, 3, noise=None)
    assert torch.equal(batch.input_ids, torch.from_numpy(some.rows(np.arange(3))))
    assert batch.masked.shape == batch.labels.shape == (0,)
    assert same(batch.to("cpu"), batch)


def test_evaluation_asks_everybody_the_same(noise: Noise) -> None:
    some = blocks(50)
    whole = torch.cat([b.input_ids for b in evaluation_batches(some, 50, noise=noise)])
    parts = torch.cat([b.input_ids for b in evaluation_batches(some, 7, noise=noise)])
    assert torch.equal(whole, parts)
    (few,) = evaluation_batches(some, 8, noise=noise, limit=5)
    assert torch.equal(few.input_ids, whole[[0, 10, 20, 30, 40]])
    (all_,) = evaluation_batches(some, 64, noise=noise, limit=1000)
    assert torch.equal(all_.input_ids, whole)
    (mixed,) = evaluation_batches(some, 64, noise=noise, is_mixed=True)
    (again,) = evaluation_batches(some, 64, noise=noise, is_mixed=True)
    assert torch.equal(mixed.input_ids, again.input_ids)
    assert not torch.equal(mixed.input_ids, whole)
    assert sorted(mixed.input_ids.tolist()) == sorted(whole.tolist())


def test_evaluation_noise_stays_as_it_is(noise: Noise) -> None:
    # Losses measured by different versions must be comparable: these positions are forever.
    (batch,) = evaluation_batches(blocks(2), 2, noise=noise)
    assert batch.masked.tolist() == [8, 9, 12, 13, 16, 18, 27, 41, 55, 57]


def test_a_tokenizer_without_a_mask_token(bert_tokenizer: PreTrainedTokenizerBase) -> None:
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_object=bert_tokenizer.backend_tokenizer)
    with pytest.raises(ModelError, match=r"no mask token .*--objective kd"):
        Noise.of(plain)


def test_prefetched_batches_are_the_same(noise: Noise) -> None:
    ahead = prefetched(training_batches(blocks(10), 4, 1, noise=noise))
    plain = training_batches(blocks(10), 4, 1, noise=noise)
    assert all(map(same, take(ahead, 6), take(plain, 6)))
    assert len(list(prefetched(iter(take(plain, 3))))) == 3


def test_what_goes_wrong_ahead_is_raised(noise: Noise) -> None:
    def broken() -> Iterator[Batch]:
        yield from take(training_batches(blocks(10), 4, 1, noise=noise), 2)
        raise CorpusError("the text is gone")

    ahead = prefetched(broken())
    take(ahead, 2)
    with pytest.raises(CorpusError, match="the text is gone"):
        next(ahead)


def special_tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """Tokenizers of every kind, small: what they put around a text is known."""
    around = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    start = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 0)])
    end = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 1)])
    known = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "zebra": 3, "▁zebra": 4}
    pieces = [*((piece, 0.0) for piece in known), ("▁", -1.0)]
    byte_level = Tokenizer(models.BPE({**known, "Ġ": 5, "z": 6}, []))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    unigram = Tokenizer(models.Unigram(pieces, unk_id=2))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    words = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    gone = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    gone.normalizer = normalizers.Replace("a", "")  # as some normalizers lose what they dislike
    silent = Tokenizer(models.BPE({**known, "z": 5}, []))  # says nothing where it knows nothing
    found = {}
    for name, backend, processor in (
        ("byte level", byte_level, around),
        ("unigram", unigram, around),
        ("start", words, start),
        ("end", gone, end),
        ("nothing", words, None),
        ("silent", silent, around),
    ):
        backend = Tokenizer.from_str(backend.to_str())
        if processor is not None:
            backend.post_processor = processor
        found[name] = PreTrainedTokenizerFast(tokenizer_object=backend)
    return found


def test_special_tokens_of_every_kind_of_tokenizer() -> None:
    expected = {
        "byte level": ([0], [1]),
        "unigram": ([0], [1]),
        "start": ([0], []),
        "end": ([], [1]),
        "nothing": ([], []),
        "silent": ([0], [1]),
    }
    tokenizers = special_tokenizers()
    assert {name: special_tokens_around(t) for name, t in tokenizers.items()} == expected
    shortened = tokenizers["byte level"]
    shortened.backend_tokenizer.enable_truncation(2)
    shortened.backend_tokenizer.enable_padding(length=9)
    assert special_tokens_around(shortened) == ([0], [1])
