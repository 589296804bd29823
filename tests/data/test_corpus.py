from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_disk import small_disk
from transformers import PreTrainedTokenizerBase

import tamtctl.data.token_streams
from tamtctl.data.corpus import load_corpus
from tamtctl.data.text.documents import is_held_out
from tamtctl.foundations.errors import CorpusError, ModelError
from tamtctl.foundations.working import heard_by

LINES = [f"the lottery ticket {i}, masks of {i * i}" for i in range(500)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "corpora"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "text.txt", LINES)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines))
    return path


def ids(tokenizer: PreTrainedTokenizerBase, lines: list[str]) -> list[int]:
    return [i for line in lines for i in tokenizer(line, add_special_tokens=False)["input_ids"]]


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def told_of_progress(advance: Callable[[int], object]) -> AbstractContextManager[None]:
    """Let a function hear of how many tokens more there are."""
    other = SimpleNamespace(advance=lambda _: None, end=lambda: None)
    tokens = SimpleNamespace(advance=advance, end=lambda: None)
    return heard_by(
        SimpleNamespace(begin=lambda what, *_: tokens if what == "tokenising" else other)
    )


def test_streams_are_the_tokens_of_the_documents_in_order(
    file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    corpus = load_corpus(str(file), bert_tokenizer)
    # The rule is written out here, since tickets of old versions rely on it.
    tenth = [int(sha256_hex(line)[:16], 16) % 10 == 0 for line in LINES]
    train = ids(bert_tokenizer, [x for x, out in zip(LINES, tenth, strict=True) if not out])
    held_out = ids(bert_tokenizer, [x for x, out in zip(LINES, tenth, strict=True) if out])
    assert corpus.train.tolist() == train
    assert corpus.held_out.tolist() == held_out
    assert corpus.documents == 500
    assert corpus.tokens == len(train) + len(held_out)
    assert corpus.name == str(file)
    assert 30 < sum(tenth) < 70
    assert isinstance(corpus.train, np.memmap)
    assert corpus.train.dtype == np.dtype("<u2")
    assert folders(cache) == [corpus.fingerprint]
    stored = np.fromfile(cache / corpus.fingerprint / "held_out.bin", "<u2")
    assert stored.tolist() == held_out


def sha256_hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_split_depends_on_neither_order_nor_names_nor_format(
    tmp_path: Path, file: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    shuffled = random.Random(0).sample(LINES, len(LINES))
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "b.txt", shuffled[:200])
    pq.write_table(pa.table({"body": shuffled[200:]}), tmp_path / "folder" / "a.parquet")
    one = load_corpus(str(file), bert_tokenizer)
    two = load_corpus(str(tmp_path / "folder"), bert_tokenizer)
    assert one.train.tolist() != two.train.tolist()
    assert sorted(one.train) == sorted(two.train)
    assert sorted(one.held_out) == sorted(two.held_out)


def test_several_sources_are_one_corpus(
    tmp_path: Path, file: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    other = write(tmp_path / "other.md", ["masked networks " * i for i in range(1, 100)])
    both = load_corpus([str(file), str(other)], bert_tokenizer)
    parts = [load_corpus(str(part), bert_tokenizer) for part in (file, other)]
    assert both.train.tolist() == np.concatenate([part.train for part in parts]).tolist()
    assert both.held_out.tolist() == np.concatenate([part.held_out for part in parts]).tolist()
    assert both.documents == sum(part.documents for part in parts)
    assert both.name == f"{file}, {other}"


def test_held_out_text_of_its_own(
    tmp_path: Path, file: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    other = write(tmp_path / "other.txt", ["kept apart"])
    corpus = load_corpus(str(file), bert_tokenizer, held_out=str(other))
    assert corpus.train.tolist() == ids(bert_tokenizer, LINES)
    assert corpus.held_out.tolist() == ids(bert_tokenizer, ["kept apart"])
    assert corpus.documents == 501


def test_lines_of_a_document_are_tokenised_one_by_one(
    tmp_path: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    blocks = "\n\n".join(f"ticket {i}\n the masks {i}" for i in range(100))
    (tmp_path / "a.txt").write_text(blocks)
    corpus = load_corpus(str(tmp_path / "a.txt"), bert_tokenizer)
    assert corpus.documents == 100
    assert corpus.tokens == len(ids(bert_tokenizer, [x for x in blocks.split("\n") if x]))


def test_the_cache_is_used_until_content_tokenizer_or_options_change(
    tmp_path: Path, file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    reports: list[int] = []
    with told_of_progress(reports.append):
        first = load_corpus(str(file), bert_tokenizer)
    assert sum(reports) == first.tokens
    reports.clear()
    (cache / first.fingerprint / "train.bin").touch()
    moved = file.rename(tmp_path / "moved.txt")
    with told_of_progress(reports.append):
        again = load_corpus(str(moved), bert_tokenizer)
    assert reports == []
    assert again.fingerprint == first.fingerprint
    assert again.name == str(moved)
    assert again.train.tolist() == first.train.tolist()

    shorter = load_corpus(str(moved), bert_tokenizer, max_tokens=100)
    assert shorter.train.tolist() == first.train[:100].tolist()
    column = load_corpus(str(moved), bert_tokenizer, text_column="body")
    held_out = load_corpus(str(moved), bert_tokenizer, held_out=str(moved))
    write(moved, [*LINES, "one more"])
    longer = load_corpus(str(moved), bert_tokenizer)
    bert_tokenizer.backend_tokenizer.normalizer.lowercase = False
    try:
        cased = load_corpus(str(moved), bert_tokenizer)
    finally:
        bert_tokenizer.backend_tokenizer.normalizer.lowercase = True
    corpora = [first, shorter, column, held_out, longer, cased]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora) == len(folders(cache))


def test_progress_counts_tokens(
    file: Path, bert_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_corpus(str(file), bert_tokenizer)
    # Written in many small parts, the streams are the same.
    monkeypatch.setattr(tamtctl.data.token_streams, "CHARACTERS_AT_ONCE", 1000)
    monkeypatch.setenv("TAMTCTL_CACHE", os.environ["TAMTCTL_CACHE"] + "2")
    reports: list[int] = []
    with told_of_progress(reports.append):
        corpus = load_corpus(str(file), bert_tokenizer)
    assert corpus.train.tolist() == expected.train.tolist()
    assert corpus.held_out.tolist() == expected.held_out.tolist()
    assert len(reports) > 10
    assert min(reports) >= 0
    assert sum(reports) == corpus.tokens


@pytest.mark.parametrize("damage", ["cut", "no stream", "no metadata", "garbage", "list"])
def test_a_damaged_cache_is_made_again(
    file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase, damage: str
) -> None:
    first = load_corpus(str(file), bert_tokenizer)
    tokens = first.train.tolist()
    folder = cache / first.fingerprint
    if damage == "cut":
        os.truncate(folder / "train.bin", 100)
    elif damage == "no stream":
        (folder / "held_out.bin").unlink()
    elif damage == "no metadata":
        (folder / "corpus.json").unlink()
    else:
        (folder / "corpus.json").write_text({"garbage": "{", "list": "[]"}[damage])
    again = load_corpus(str(file), bert_tokenizer)
    assert again.train.tolist() == tokens
    assert folders(cache) == [first.fingerprint]


LOAD = """
import sys
from transformers import BertTokenizer
from tamtctl.data.corpus import load_corpus
corpus = load_corpus(sys.argv[1], BertTokenizer.from_pretrained(sys.argv[2]))
print(corpus.fingerprint, corpus.train.sum())
"""


def test_processes_side_by_side(
    tmp_path: Path, file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    bert_tokenizer.save_pretrained(tmp_path / "tokenizer")
    command = [sys.executable, "-c", LOAD, str(file), str(tmp_path / "tokenizer")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {run.communicate()[0] for run in runs}
    corpus = load_corpus(str(file), bert_tokenizer)
    assert printed == {f"{corpus.fingerprint} {corpus.train.sum()}\n"}
    assert folders(cache) == [corpus.fingerprint]


def test_the_slower_of_two_uses_what_the_faster_wrote(
    file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    faster = []

    def overtake(_: int) -> None:
        with told_of_progress(lambda _: None):
            faster.append(load_corpus(str(file), bert_tokenizer))

    with told_of_progress(overtake):
        slower = load_corpus(str(file), bert_tokenizer)
    assert folders(cache) == [slower.fingerprint] == [faster[0].fingerprint]


def test_an_interruption_leaves_nothing(
    file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    interrupted = told_of_progress(lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), interrupted:
        load_corpus(str(file), bert_tokenizer)
    assert folders(cache) == []


KILLED = """
import os, signal, sys
from transformers import BertTokenizer
from types import SimpleNamespace
from tamtctl.data.corpus import load_corpus
from tamtctl.foundations.working import heard_by
tokenizer = BertTokenizer.from_pretrained(sys.argv[2])
tokenising = SimpleNamespace(advance=lambda _: os.kill(os.getpid(), signal.SIGKILL))
other = SimpleNamespace(advance=lambda _: None, end=lambda: None)
def begin(what, *_):
    return tokenising if what == "tokenising" else other
with heard_by(SimpleNamespace(begin=begin)):
    load_corpus(sys.argv[1], tokenizer)
"""


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path: Path, file: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    bert_tokenizer.save_pretrained(tmp_path / "tokenizer")
    command = [sys.executable, "-c", KILLED, str(file), str(tmp_path / "tokenizer")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (abandoned,) = cache.iterdir()
    other = write(tmp_path / "other.txt", LINES[:400])
    seen = []

    def look(_: int) -> None:
        (mine,) = cache.glob(".unfinished-*")
        assert mine != abandoned
        with told_of_progress(lambda _: None):
            seen.append(load_corpus(str(other), bert_tokenizer).fingerprint)
        assert mine.exists()

    with told_of_progress(look):
        corpus = load_corpus(str(file), bert_tokenizer)
    assert folders(cache) == sorted([corpus.fingerprint, *set(seen)])


def test_a_full_disk_is_one_line(
    tmp_path: Path,
    file: Path,
    bert_tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with small_disk(tmp_path / "full", "16k") as full:
        monkeypatch.setenv("TAMTCTL_CACHE", str(full))
        message = r"no space left in .*; free some, or set TAMTCTL_CACHE"
        with pytest.raises(CorpusError, match=message):
            load_corpus(str(file), bert_tokenizer)
        assert folders(full / "corpora") == []


def test_a_cache_that_is_no_folder(
    file: Path, bert_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(file))
    with pytest.raises(CorpusError, match=r"cannot write .*; set TAMTCTL_CACHE to another folder"):
        load_corpus(str(file), bert_tokenizer)


APART = [line for line in LINES if is_held_out(line)]
NOT_APART = [line for line in LINES if not is_held_out(line)]


def test_a_tenth_of_few_documents_is_told(
    tmp_path: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    few = write(tmp_path / "few.txt", [*APART[:1], *NOT_APART[:3]])
    (note,) = load_corpus(str(few), bert_tokenizer).notes
    assert note.startswith(f"the held-out tenth of {few} is 1 of its 4 documents")
    assert not load_corpus(str(write(tmp_path / "many.txt", LINES)), bert_tokenizer).notes
    apart = str(write(tmp_path / "apart.txt", APART[1:3]))
    assert not load_corpus(str(few), bert_tokenizer, held_out=apart).notes


def test_lines_on_both_sides_of_the_split_are_told(
    tmp_path: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    """A thread in which each post quotes another has new documents of old lines."""
    documents = [line for line in LINES for _ in range(2)]
    quoting = [f"{text}\n{i} of the file\n" for i, text in enumerate(documents)]
    text = str(write(tmp_path / "thread.txt", quoting))
    (note,) = load_corpus(text, bert_tokenizer).notes
    assert "of the held-out text of" in note
    assert "is trained on, too: its losses are too good" in note


TOO_LITTLE = {
    "nothing": ([], r"the corpus is empty: no text in .*text\.txt"),
    "blank": ([" ", "", "\t"], r"the corpus is empty"),
    "no tokens": (["\u200b"], r"the corpus is empty"),
    "nothing held out": (NOT_APART[:3], r"none of its 3 documents .* or hold another text out"),
    "nothing to train on": (APART[:1], r"nothing is left to train on"),
}


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_too_little_text(
    tmp_path: Path,
    cache: Path,
    bert_tokenizer: PreTrainedTokenizerBase,
    name: str,
) -> None:
    lines, message = TOO_LITTLE[name]
    file = write(tmp_path / "text.txt", lines)
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(str(file), bert_tokenizer)
    assert "\n" not in str(caught.value)
    assert folders(cache) == []


def test_a_bad_file_leaves_nothing(
    tmp_path: Path, cache: Path, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "a ticket"}) + "\n{")
    with pytest.raises(CorpusError, match=r"a\.jsonl:2 is not JSON"):
        load_corpus(str(file), bert_tokenizer)
    assert folders(cache) == []


def test_a_tokenizer_without_a_fast_form(file: Path) -> None:
    from transformers import CanineTokenizer

    with pytest.raises(ModelError, match="CanineTokenizer has no fast tokenizer"):
        load_corpus(str(file), CanineTokenizer())
