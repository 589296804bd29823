"""Text that streams from the Hub: reproducible, in shares, never what is held out."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dataset_server
import numpy as np
import processes
import pytest
import tiny
import torch

from tamtctl.data.batch import Batch
from tamtctl.data.noise import Noise
from tamtctl.data.streaming import StreamedText
from tamtctl.data.text.documents import Document, Source, is_held_out
from tamtctl.data.units import UNITS
from tamtctl.foundations.errors import CorpusError, UsageError

PAIRS = [f"{a} {b}" for a, b in itertools.permutations(tiny.WORDS, 2)]  # each its own document
LENGTH = 10  # tokens of a block, two of them special


def share(texts: list[str], seed: int, epoch: int, number: int, numbers: int) -> Iterator[Document]:
    order = np.random.default_rng((seed, epoch)).permutation(len(texts))
    return (Document(texts[i], texts[i]) for i in order[number::numbers])


def streamed(texts: list[str] = PAIRS, *, by_hash: bool = True) -> StreamedText:
    source = Source("pairs", "digest", lambda: iter(()), share=partial(share, texts))
    return StreamedText(source, tiny.tokenizer(), LENGTH, leaves_out_held_out=by_hash)


def take(text: StreamedText, count: int, **options: int) -> list[Batch]:
    noise = Noise.of(tiny.tokenizer())
    return list(itertools.islice(text.training_batches(6, 1, noise=noise, **options), count))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.input_ids, other.input_ids) and torch.equal(one.labels, other.labels)


def pairs(batches: list[Batch]) -> list[str]:
    """Return the documents that batches of clean text are made of."""
    rows = torch.cat([batch.input_ids for batch in batches])
    assert (rows[:, 0] == 1).all()  # [CLS]
    assert (rows[:, -1] == 2).all()  # [SEP]
    assert rows.shape[1] == LENGTH
    words = tiny.tokenizer().convert_ids_to_tokens(rows[:, 1:-1].flatten().tolist())
    return [f"{a} {b}" for a, b in zip(words[::2], words[1::2], strict=True)]


def test_it_follows_from_the_seed_and_goes_on_at_any_step() -> None:
    whole = take(streamed(), 130)  # more than an epoch
    assert all(map(same, whole, take(streamed(), 130)))
    assert all(map(same, whole[111:], take(streamed(), 19, start_step=111)))
    other = next(streamed().training_batches(6, 2, noise=None))
    assert not torch.equal(other.input_ids, whole[0].input_ids)


@pytest.mark.parametrize("by_hash", [True, False])
def test_shares_are_the_corpus_without_what_is_held_out(by_hash: bool) -> None:
    seen: list[str] = []
    for rank in range(3):
        batches = streamed(by_hash=by_hash).training_batches(
            7, 1, noise=None, rank=rank, world_size=3
        )
        own = [next(batches) for _ in range(80)]
        assert len(own[0].input_ids) == (2, 2, 3)[rank]
        seen += pairs(own)
    expected = {pair for pair in PAIRS if not (by_hash and is_held_out(pair))}
    assert set(seen) <= expected
    # An epoch leaves a ragged tail behind.
    assert len(set(seen)) > 0.95 * len(expected)
    assert seen[:50] != sorted(seen[:50], key=PAIRS.index)


LONG = [" ".join(tiny.WORDS[i : i + 1 + i % 7]) for i in range(30) for _ in range(8)]


@pytest.mark.parametrize("rows", [name for name, unit in UNITS.items() if not unit.is_packed])
@pytest.mark.parametrize("world_size", [1, 3])
def test_rows_are_streamed_too(rows: str, world_size: int) -> None:
    source = Source("rows", "digest", lambda: iter(()), share=partial(share, LONG))
    text = StreamedText(source, tiny.tokenizer(), 20, leaves_out_held_out=False, unit=UNITS[rows])
    noise, seen = Noise.of(tiny.tokenizer()), []
    for rank in range(world_size):
        batches = partial(text.training_batches, 6, 1, rank=rank, world_size=world_size)
        whole = list(itertools.islice(batches(noise=noise), 40))
        rest = batches(noise=noise, start_step=17)
        assert all(map(same, whole[17:], itertools.islice(rest, 23)))
        for batch in batches(noise=None):
            assert batch.attention_mask is not None
            lengths = batch.attention_mask.sum(1).tolist()
            assert max(lengths) == batch.input_ids.shape[1]
            for row, length in zip(batch.input_ids.tolist(), lengths, strict=True):
                assert (row[0], row[length - 1]) == (1, 2)  # [CLS], [SEP]
                assert not any(row[length:])
                seen.append(tuple(tiny.tokenizer().convert_ids_to_tokens(row[1 : length - 1])))
            if len(seen) >= (rank + 1) * len(LONG) / world_size:
                break
    counts = Counter(seen)
    assert counts == Counter(tuple(text.split()) for text in LONG)  # once in an epoch


def test_too_short_a_stream() -> None:
    with pytest.raises(CorpusError, match="too short to be streamed to 4 processes"):
        take(streamed(PAIRS[:12]), 1, rank=1, world_size=4)


def test_files_are_not_streamed(text_file: Path) -> None:
    with pytest.raises(UsageError, match="--stream is for a Hub dataset"):
        StreamedText.open(
            str(text_file), tiny.tokenizer(), LENGTH, text_column=None, has_held_out=False
        )


def test_two_processes_search_on_a_stream(tiny_model: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"{pair} " * 8}) for pair in PAIRS]
    files = {"train.jsonl": "\n".join(lines).encode()}
    command = (
        "search --stream --corpus owner/data --sparsity 0.7 --steps 3 --batch-size 3 "
        "--sequence-length 16 --device cpu --json --output-dir run --init fisher "
        "--calibration-tokens 320"  # the first process reads them, and all start from its mask
    ).split()
    with dataset_server.serve("owner/data", files) as endpoint:
        running = processes.start_several(
            2,
            [*command, "--model", tiny_model],
            tmp_path,
            dataset_server.environment(endpoint, tmp_path / "home"),
        )
        for process in running:
            process.join()
    told = (tmp_path / "err-0").read_text()
    assert [process.exitcode for process in running] == [0, 0], told
    assert json.loads((tmp_path / "out-0").read_text())["steps"] == 3
    assert "owner/data (streamed, " in told
