"""Where a text is cut, what is kept of it, and which text should be cut by lines."""

from __future__ import annotations

import builtins
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tamtctl.data.corpus import load_corpus
from tamtctl.data.text.documents import Document
from tamtctl.data.text.sources import open_source
from tamtctl.data.units import BLOCKS, UNITS, rows_of
from tamtctl.foundations.errors import CorpusError

ROWS = [name for name, unit in UNITS.items() if not unit.is_packed]
TEXT = "Dr. Smith has 3.5 files. He lists them!\n\nA name\nIs it? Yes: it is."


def cut(rows: str, text: str) -> list[list[str]]:
    split = UNITS[rows].rows
    assert split is not None
    return [list(row) for row in split(Document("key", text))]


def test_units_of_a_document() -> None:
    assert cut("lines", TEXT) == [
        ["Dr. Smith has 3.5 files. He lists them!"],
        ["A name"],
        ["Is it? Yes: it is."],
    ]
    assert cut("sentences", TEXT) == [
        ["Dr. Smith has 3.5 files."],
        ["He lists them!"],
        ["A name"],
        ["Is it?"],
        ["Yes: it is."],
    ]
    assert cut("documents", TEXT) == [[line for line in TEXT.split("\n") if line]]
    assert [cut(rows, " \n") for rows in ROWS] == [[], [], []]
    assert UNITS[BLOCKS].is_packed


def test_sentences_of_other_scripts() -> None:
    assert cut("sentences", "今天天气很好。我们去公园吧！") == [
        ["今天天气很好。"],
        ["我们去公园吧！"],
    ]
    assert cut("sentences", "आप कैसे हैं? यह ठीक है।") == [["आप कैसे हैं?"], ["यह ठीक है।"]]


def test_lines_that_were_broken_to_fit_a_page_are_whole_sentences() -> None:
    wrapped = (
        "The quick brown fox jumps over the lazy dog, and\n"
        "then it sleeps until somebody wakes it again. The\n"
        "list of names follows.\nfirst\nsecond"
    )
    assert cut("sentences", wrapped) == [
        ["The quick brown fox jumps over the lazy dog, and then it sleeps until somebody wakes it "
         "again."],
        ["The list of names follows."],
        ["first"],
        ["second"],
    ]  # fmt: skip


def test_without_the_splitter_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, bert_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(CorpusError, match="sentencex, which is not installed: pip install"):
        load_corpus(str(tmp_path / "text.txt"), bert_tokenizer, rows="sentences")
    imported = builtins.__import__

    def refusing(name: str, *more: Any) -> Any:
        if name == "sentencex":
            raise ImportError(name)
        return imported(name, *more)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(CorpusError, match="or give --rows lines"):
        cut("sentences", TEXT)


@pytest.mark.parametrize("rows", ROWS)
def test_rows_of_a_corpus_are_those_of_its_documents(
    rows: str, bert_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    paragraphs = [f"The {'x' * i} mask. It is\nthe ticket {i}!\n\u200b" for i in range(60)]
    file.write_text("\n\n".join(paragraphs))
    for _ in range(2):  # written, then read
        corpus = load_corpus(str(file), bert_tokenizer, rows=rows)
        assert corpus.rows == rows
        assert corpus.train_ends is not None
        found = []
        for stream, ends in (
            (corpus.train, corpus.train_ends),
            (corpus.held_out, corpus.held_out_ends),
        ):
            assert ends is not None
            assert ends[-1] == len(stream)
            assert (np.diff(ends, prepend=0) > 0).all()  # what has no token is no row
            found += [part.tolist() for part in np.split(stream, ends[:-1])]
    expected = []
    for document in open_source(str(file))[0].documents():
        for row in cut(rows, document.text):
            ids = [bert_tokenizer(line, add_special_tokens=False).input_ids for line in row]
            expected.append([id_ for own in ids for id_ in own])
    assert sorted(found) == sorted(filter(None, expected))


def test_corpora_of_other_rows_are_others(
    bert_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"the mask {i}." for i in range(100)))
    corpora = [load_corpus(str(file), bert_tokenizer, rows=rows) for rows in UNITS]
    assert len({one.fingerprint for one in corpora}) == len(UNITS)
    assert corpora[0].train_ends is None
    assert corpora[0].train.tolist() == corpora[1].train.tolist()  # the split is by document
    few = load_corpus(str(file), bert_tokenizer, rows="lines", max_tokens=50)
    assert few.train_ends is not None
    assert len(few.train) == few.train_ends[-1] == 50


def test_a_damaged_file_of_ends_is_written_again(
    bert_tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"the mask {i}." for i in range(100)))
    first = load_corpus(str(file), bert_tokenizer, rows="lines")
    assert first.train_ends is not None
    ends = first.train_ends.tolist()
    (stored,) = (tmp_path / "cache").rglob("train.ends")
    stored.write_bytes(stored.read_bytes()[:-8])
    again = load_corpus(str(file), bert_tokenizer, rows="lines")
    assert again.train_ends is not None
    assert again.train_ends.tolist() == ends


def symbols(pattern: str, pieces: str) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are single symbols."""
    known = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[MASK]", *pieces.split()])}
    backend = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(pattern), "isolated")]
    )
    backend.post_processor = processors.TemplateProcessing(single="$A")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", mask_token="[MASK]", pad_token="[PAD]"
    )


AMINO_ACIDS = symbols(".", " ".join("ACDEFGHIKLMNPQRSTVWYacdefghiklmnopqrstuvwxyz."))
ATOMS = symbols(r"\[[^\]]+\]|Br|Cl|.", "C N O c n o ( ) = 1 2 [C@@H] [nH] Br Cl")


@pytest.mark.parametrize(
    ("tokenizer", "line", "is_noticed"),
    [
        (AMINO_ACIDS, "EVQLVESGGGLVQPGGSLRLSCAAS", True),
        (AMINO_ACIDS, "E V Q L V E S G G G L V Q P G", True),
        (ATOMS, "CC(=O)N[C@@H](Cc1c[nH]cn1)C(=O)OBr", True),
        (AMINO_ACIDS, "there is a list of words in this line.", False),
        (AMINO_ACIDS, "EVQ", False),
    ],
)
def test_lines_of_symbols_are_noticed(
    tokenizer: PreTrainedTokenizerFast, line: str, is_noticed: bool, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(line for _ in range(60)))
    packed = load_corpus(str(file), tokenizer, held_out=str(file)).notes
    assert any("give --rows lines" in note for note in packed) == is_noticed
    by_lines = load_corpus(str(file), tokenizer, held_out=str(file), rows="lines").notes
    assert not any("--rows" in note for note in by_lines)


def test_words_are_no_symbols(bert_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"  # of which that tokenizer makes single letters
    file.write_text("\n".join(f"{i} files are in this list, by their names" for i in range(60)))
    assert not any("--rows" in note for note in load_corpus(str(file), bert_tokenizer).notes)


def test_what_a_ticket_keeps_of_its_rows() -> None:
    assert rows_of({}) == rows_of({"rows": "haiku"}) == rows_of({"rows": ["lines"]}) == "blocks"
    assert rows_of({"rows": "lines"}) == "lines"


CSV = 'reaction,class\nCC>>C,1\n"C,C>>""N""",2\n\n"C\nO",3\n'


def texts(file: Path, column: str | None = None) -> list[str]:
    (source,) = open_source(str(file), column)
    return [document.text for document in source.documents()]


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(CSV)
    expected = ["CC>>C", 'C,C>>"N"', "C\nO"]
    assert texts(file) == texts(file, "reaction") == expected  # a column of numbers is no text
    file.write_text(CSV.replace(",1\n", ",one\n"))
    with pytest.raises(CorpusError, match="'reaction', 'class'; name one with --text-column"):
        texts(file)
    with pytest.raises(CorpusError, match=r"a.csv:2 has no column 'text', but 'reaction'"):
        texts(file, "text")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\nx\n", r"a.csv:2 has 1 column, not 2; quote a field"),
        ('a,b\n"x\n', r"a.csv:2 is not CSV: "),
        ("a;b\nx;y\n", "has its columns between semicolons; write it with commas"),
        ("a,b,a\nx,y,z\n", "has 2 columns 'a'; rename all but the one to read"),
    ],
)
def test_what_is_no_csv(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(CorpusError, match=reason):
        texts(tmp_path / "a.csv")
