from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dataset_server
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamtctl.data.text.files
from tamtctl.data.text.sources import open_source
from tamtctl.foundations.errors import CorpusError


def texts(source: str | Path, text_column: str | None = None) -> list[str]:
    opened = open_source(str(source), text_column)
    return [document.text for part in opened for document in part.documents()]


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    if path.suffix in {".gz", ".xz"}:
        data = (gzip if path.suffix == ".gz" else lzma).compress(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz", "a.md", "a.text", "a", "a.TXT"])
def test_a_line_is_a_document(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, "\n\n first line\nsecond\t line \r\nthird\n\n")
    assert texts(file) == [" first line", "second\t line ", "third"]


def test_a_block_is_a_document_where_blank_lines_separate(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\n = Title = \n \none\r\ntwo\n\n\t\nthree")
    assert texts(file) == [" = Title = ", "one\ntwo", "three"]


def test_only_line_feeds_end_lines_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\ufeffa\u2028b\x0cc\x85d\re\n\ufefff\n")
    assert texts(file) == ["a\u2028b\x0cc\x85d\re", "\ufefff"]


def test_endless_lines_and_blocks_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tamtctl.data.text.files, "LONGEST_DOCUMENT", 16)
    line = write(tmp_path / "line.txt", "wörter und 中文中文中文中文中文中文 end " * 3)
    assert "".join(texts(line)) == "wörter und 中文中文中文中文中文中文 end " * 3
    assert all(len(text.encode()) <= 16 for text in texts(line))
    assert texts(line)[0] == "wörter und "
    block = write(tmp_path / "block.txt", "head\n\n" + "four\n" * 9)
    assert texts(block) == ["head", *["four\nfour\nfour"] * 3]


@settings(deadline=None, max_examples=200)
@given(lines=st.lists(st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))))
def test_no_text_is_lost(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_bytes("\n".join(lines).encode())
    kept = "\n".join(lines).removeprefix("\ufeff").split("\n")
    kept = [line.removesuffix("\r") for line in kept if line and not line.isspace()]
    assert "\n".join(texts(file)).split("\n") == (kept or [""])


def test_a_folder_is_all_its_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "b")
    write(tmp_path / "a" / "z.md.xz", "az")
    write(tmp_path / "a" / "a.jsonl.gz", '{"text": "aa"}')
    write(tmp_path / "a" / "picture.png", b"\0")
    write(tmp_path / ".hidden" / "c.txt", "hidden")
    write(tmp_path / ".hidden.txt", "hidden")
    assert texts(tmp_path) == ["aa", "az", "b"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.xz"])
def test_records_of_json_lines(tmp_path: Path, name: str) -> None:
    records = [{"id": 1, "text": "one\r\nmore"}, {"id": 2, "text": None}, {"text": " "}]
    content = "\n\n".join(map(json.dumps, [*records, {"text": "two", "extra": "x"}]))
    assert texts(write(tmp_path / name, content)) == ["one\nmore", "two"]


@pytest.fixture
def write_records(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    def as_json_lines(**columns: list[object]) -> Path:
        rows = zip(*columns.values(), strict=True)
        records = (json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
        return write(tmp_path / "a.jsonl", "\n".join(records))

    def as_parquet(**columns: list[object]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    return as_parquet if request.param == "parquet" else as_json_lines


@pytest.mark.parametrize("write_records", ["jsonl", "parquet"], indirect=True)
def test_the_column_of_the_text(write_records: Callable[..., Path]) -> None:
    assert texts(write_records(title=["t"], text=["one"])) == ["one"]
    assert texts(write_records(title=["t"], text=["one"]), "title") == ["t"]
    assert texts(write_records(id=[1, 2], body=["one", None])) == ["one"]
    with pytest.raises(CorpusError, match=r"no column 'text', but 'a', 'b'; .*--text-column"):
        texts(write_records(a=["x"], b=["y"]))
    with pytest.raises(CorpusError, match=r"no column 'c', but 'a', 'b'$"):
        texts(write_records(a=["x"], b=["y"]), "c")
    with pytest.raises(CorpusError, match=r"column 'id', is not a string"):
        texts(write_records(id=[1]), "id")


def test_an_empty_shard_of_parquet_is_no_reason_to_refuse_the_others(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([], "int64")}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a line"]}), tmp_path / "b.parquet")
    assert texts(tmp_path) == ["a line"]


def test_columns_of_parquet(tmp_path: Path) -> None:
    rows = [f"row {i}" for i in range(3000)]
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"n": range(3000), "body": pa.array(rows).cast(kind)})
        pq.write_table(table, tmp_path / "a.parquet")
        assert texts(tmp_path / "a.parquet") == rows


def test_digests_follow_the_content_only(tmp_path: Path) -> None:
    digests = {
        open_source(str(write(tmp_path / name, content)))[0].digest
        for name, content in [
            ("a.txt", "same"),
            ("b.md", "same"),
            ("c.txt", "other"),
            ("d.jsonl", "same"),
        ]
    }
    assert len(digests) == 3


BAD_FILES = {
    "latin.txt": ("ok\nna\u00efve".encode("latin-1"), r"latin\.txt is not UTF-8 \(byte 5\)"),
    "utf16.txt": ("text".encode("utf-16"), r"utf16\.txt is UTF-16, not UTF-8; convert it"),
    "mac.txt": (b"one\rtwo\rthree", r"mac\.txt ends its lines with CR alone; convert it"),
    "packed.txt": (gzip.compress(b"text"), r"packed\.txt is compressed; name it \.gz or \.xz"),
    "a.txt": (b"abc\n\x7fELF\0", r"a\.txt is a binary file \(a zero at byte 8\)"),
    "cut.jsonl": (b'{"text": "a"}\n{"text": "b', r"cut\.jsonl:2 is not JSON"),
    "twice.jsonl": (
        b'{"text": "a"}\n{"text": "b", "m": 1, "text": "c"}',
        r"twice\.jsonl:2 has 'text' twice in one",
    ),
    "list.jsonl": (b'["a"]', r"list\.jsonl:1 is not a JSON object"),
    "deep.jsonl": (b"[" * 100_000, r"deep\.jsonl:1 is not JSON"),
    "half.jsonl": (rb'{"text": "\ud800"}', r"half\.jsonl:1, column 'text', is not valid Unicode"),
    "later.jsonl": (b'{"text": "a"}\n{"txt": "b"}', r"later\.jsonl:2 has no column 'text', but"),
    "none.jsonl": (b"{}", r"none\.jsonl:1 has no column 'text', but no columns at all"),
    "a.parquet": (b"PAR1 not really", r"a\.parquet is not a readable Parquet file: "),
    "empty.parquet": (b"", r"empty\.parquet is not a readable Parquet file: "),
    "a.zip": (b"PK", r"a\.zip is of no kind that can be read: use \.txt"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        texts(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz", "a.jsonl.gz"])
@pytest.mark.parametrize("damage", ["cut", "not compressed", "flipped"])
def test_damaged_compression(tmp_path: Path, name: str, damage: str) -> None:
    file = write(tmp_path / name, '{"text": "abcdefgh"}\n' * 1000)
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[-6] ^= 255  # in the checksums
    file.write_bytes(
        {"cut": data[:-10], "not compressed": bytearray(b"plain"), "flipped": data}[damage]
    )
    with pytest.raises(CorpusError, match=f"{name} is damaged or cut short"):
        texts(file)


def test_damage_inside_a_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(5000)]}), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[50:500] = bytes(450)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(CorpusError, match="not a readable Parquet file"):
        texts(tmp_path / "a.parquet")


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for missing in (
        "no/such/file.txt",
        "corpus.txt.gz",
        "/nowhere",
        "../x",
        "",
        "a" * 300 + "/b/c",
    ):
        with pytest.raises(CorpusError, match=r"is no file or folder here, nor a Hub dataset id"):
            open_source(missing)
    with pytest.raises(CorpusError, match=r"no text in the folder"):
        open_source(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match=r"pipe is neither a file nor a folder"):
        open_source(str(tmp_path / "pipe"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "text")
    file.chmod(0)
    with pytest.raises(CorpusError, match=r"cannot read .*a\.txt: Permission denied"):
        open_source(str(file))


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=r"no network to the Hub .*; use python-docs or a local"):
        open_source("Salesforce/wikitext:wikitext-103-raw-v1")
    write(tmp_path / "Salesforce" / "wikitext", "an existing path wins")
    assert texts("Salesforce/wikitext") == ["an existing path wins"]


def test_python_docs() -> None:
    (source,) = open_source("python-docs")
    pages = list(source.documents())
    assert len(pages) > 100
    assert len({page.key for page in pages}) == len(pages)
    assert pages == list(source.documents())


# --- a Hub on this machine -------------------------------------------------------------------

FILES = {
    "train.jsonl": "".join(f'{{"text": "row {i}"}}\n' for i in range(30)).encode(),
    "validation.jsonl": b'{"text": "kept apart"}\n',
}
READ = """
import json, sys
from tamtctl.foundations.errors import CorpusError
from tamtctl.data.text.sources import open_source
try:
    source, = open_source(sys.argv[1])
    parts = [source.documents, source.held_out or (lambda: [])]
    parts += [lambda i=i: source.share(5, 0, i, 2) for i in range(2)]
    print(json.dumps([source.digest, *[[d.text for d in part()] for part in parts]]))
except CorpusError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def hub() -> Iterator[str]:
    with dataset_server.serve("owner/data", FILES) as endpoint:
        yield endpoint


def test_a_hub_dataset_is_streamed_with_its_validation_split(hub: str, tmp_path: Path) -> None:
    digest, train, held_out, *shares = dataset_server.run(READ, hub, tmp_path, "owner/data")
    assert digest == f"owner/data:@{dataset_server.SHA}"
    assert train == [f"row {i}" for i in range(30)]
    assert held_out == ["kept apart"]
    assert sorted(shares[0] + shares[1]) == sorted(train)
    assert len(shares[0]) == 15
    assert shares[0] != sorted(shares[0], key=train.index)  # shuffled


def test_hub_datasets_that_cannot_be_read(hub: str, tmp_path: Path) -> None:
    def message(endpoint: str, source: str) -> str:
        return str(dataset_server.run(READ, endpoint, tmp_path, source))

    assert "no such dataset on the Hub" in message(hub, "owner/missing")
    other = message(hub, "owner/data:other")
    assert "cannot read the dataset owner/data:other: BuilderConfig 'other' not found" in other
    assert "no network to the Hub" in message("http://127.0.0.1:9", "a/b")


# --- which column, which files ----------------------------------------------------------------

LONG = "the file name is a list of data " * 5


def rows_of(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    return write(path, "\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("first", [{"body": None}, {}, {"body": "x"}, {"body": ""}])
def test_many_records_tell_the_column(name: str, first: dict[str, object], tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"title": "t", "n": 0, **first}]
    rows += [{"title": f"title {i}", "n": i, "body": LONG} for i in range(300)]
    file = rows_of(tmp_path / name, rows if "parquet" not in name else rows[::-1])
    with pytest.raises(CorpusError, match=r"no column 'text', but .*'body'.*; .*--text-column"):
        texts(file)
    read = texts(file, "body")
    assert read.count(LONG) == 300
    assert not any(text.startswith("title") for text in read)


def test_a_column_of_strings_that_is_named_text_wins_only_if_it_holds_some(tmp_path: Path) -> None:
    good: list[dict[str, object]] = [{"text": None, "body": "b"}, {"text": "one", "body": "b"}]
    assert texts(rows_of(tmp_path / "a.jsonl", good)) == ["one"]
    empty: list[dict[str, object]] = [{"text": None, "body": "b"}] * 3
    for name in ("b.jsonl", "b.parquet"):
        with pytest.raises(CorpusError, match=r"no text in its column 'text', but 'body'; name"):
            texts(rows_of(tmp_path / name, empty))


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_text_inside_values_is_not_overlooked(name: str, tmp_path: Path) -> None:
    nested: list[dict[str, object]] = [{"n": 1, "content": {"body": LONG}}]
    with pytest.raises(CorpusError, match=r"inside the values of 'content'.* column of its own"):
        texts(rows_of(tmp_path / name, nested))
    nested = [{"id": "a1", "content": {"parts": [LONG]}}]
    with pytest.raises(CorpusError, match=r"no column 'text', but 'id', 'content'; name one"):
        texts(rows_of(tmp_path / name, nested))
    tagged: list[dict[str, object]] = [{"body": LONG, "tags": ["a", "b"]}]
    assert texts(rows_of(tmp_path / name, tagged)) == [LONG]


def test_records_that_lack_the_column_asked_for_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": 1}, {"id": 2, "body": "one"}, {"id": 3, "body": None}]
    (source,) = open_source(str(rows_of(tmp_path / "a.jsonl", rows)), "body")
    assert [document.text for document in source.documents()] == ["one"]
    assert source.skipped == {"body": 1}
    with pytest.raises(CorpusError, match=r"a\.jsonl:1 has no column 'bdy', but 'id', 'body'"):
        texts(tmp_path / "a.jsonl", "bdy")


def test_links_in_a_folder_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "store" / "deep" / "far.txt", "far")
    write(tmp_path / "store" / "file.txt", "single")
    corpus = tmp_path / "corpus"
    write(corpus / "near.txt", "near")
    (corpus / "linked").symlink_to("../store/deep", target_is_directory=True)
    (corpus / "link.txt").symlink_to("../store/file.txt")
    assert texts(corpus) == ["single", "far", "near"]
    (tmp_path / "way").symlink_to("corpus", target_is_directory=True)
    assert texts(tmp_path / "way") == ["single", "far", "near"]
    assert open_source(str(corpus))[0].notes == ()

    (corpus / "loop").symlink_to("..", target_is_directory=True)
    (corpus / "round").symlink_to(".", target_is_directory=True)
    (corpus / "same.txt").symlink_to("near.txt")
    assert sorted(texts(corpus)) == ["far", "near", "single"]  # by the loop, and not twice
    (note,) = open_source(str(corpus))[0].notes
    assert " links to what is read already (" in note
    (corpus / "loop").unlink()
    (note,) = open_source(str(corpus))[0].notes
    assert note.endswith(": 2 links to what is read already ('round', 'same.txt')")


def test_what_is_left_out_of_a_folder_is_named_in_one_line(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write(corpus / "a.txt", "a")
    for name in ("b.pdf", "c.html", "sub/d.csv", "sub/e.zip"):
        write(corpus / name, "x")
    write(corpus / ".git" / "f.txt", "x")
    (corpus / "gone.txt").symlink_to("nowhere.txt")
    os.mkfifo(corpus / "pipe")
    first, *others = open_source(str(corpus))
    assert not others
    assert first.notes == (
        f"left out of the folder {str(corpus)!r}: 1 hidden ('.git'); 4 of kinds that are not read "
        "('b.pdf', 'c.html', 'sub/d.csv', …); 1 links to nothing ('gone.txt'); "
        "1 neither files nor folders ('pipe')",
    )
    with pytest.raises(CorpusError, match="is a link to nothing"):
        open_source(str(corpus / "gone.txt"))
    (corpus / "a.txt").unlink()
    with pytest.raises(CorpusError, match=r"no text in the folder .* \(left out of the folder"):
        open_source(str(corpus))
