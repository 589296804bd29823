"""Small files that claim or unpack to gigabytes: they cost neither memory nor time."""

from __future__ import annotations

import dataclasses
import gzip
import json
import lzma
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import tiny
import torch
import zstandard
from memory import at_most
from small_tickets import list_again, make_ticket, rewrite_json, small_ticket, trained_mask

from tamtctl.data.text.sources import open_source
from tamtctl.foundations.errors import CorpusError, ModelError, TaskError
from tamtctl.foundations.masks import pack
from tamtctl.models.fingerprints import combined_fingerprint
from tamtctl.models.loading import load_encoder
from tamtctl.tasks.kinds.span import read_articles
from tamtctl.tasks.labelled import folders
from tamtctl.tasks.labelled.files import records_of
from tamtctl.tasks.labelled.opening import open_own_task
from tamtctl.tasks.registry import find_task
from tamtctl.ticket.format.head_format import HEAD_FILE
from tamtctl.ticket.format.mask_codec import (
    Stored,
    decode_mask,
    encode_mask,
    packed_chunks,
    repacked,
)
from tamtctl.ticket.inspection import compare_masks, inspect_ticket
from tamtctl.ticket.ticket import Ticket

SEVERAL = 50.0  # megabytes


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.process_time()  # of this process: others may keep the machine busy
    yield
    assert time.process_time() - began <= seconds


def frame_of(byte: int, size: int) -> Stored:
    """Return the zstd frame of one byte repeated, without having it in memory."""
    writer = zstandard.ZstdCompressor(level=1).compressobj(size=size)
    parts, left, piece = [], size, bytes([byte]) * 2**20
    while left:
        parts.append(writer.compress(piece[:left]))
        left -= min(left, len(piece))
    return np.frombuffer(b"".join([*parts, writer.flush()]), np.uint8)


def claiming(folder: Path, encoding: str, masks: dict[str, tuple[list[int], int, Stored]]) -> Path:
    """Write a ticket of any matrices, name → shape, kept, stored, with all that follows from it."""
    small_ticket().save_pretrained(folder)
    entries = {n: {"shape": s, "kept": k, "sha256": "0" * 64} for n, (s, k, _) in masks.items()}
    total = sum(int(np.prod(s, dtype=np.int64)) for s, _, _ in masks.values())
    shapes, hashes = {n: s for n, (s, _, _) in masks.items()}, dict.fromkeys(masks, "0" * 64)

    def change(document: dict[str, Any]) -> None:
        document["parameters"] = entries
        document["encoding"] = encoding
        document["sparsity"] = (total - sum(k for _, k, _ in masks.values())) / total
        document["base_model"]["fingerprint"] = combined_fingerprint(shapes, hashes)

    rewrite_json(folder, change)
    stored = {name: mask for name, (_, _, mask) in masks.items()}
    safetensors.numpy.save_file(stored, folder / "mask.safetensors")
    list_again(folder)
    return folder


def test_a_cell_and_a_file_of_answers_have_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tamtctl.data.text.tables.LONGEST_LINE", 1000)
    monkeypatch.setattr("tamtctl.tasks.kinds.span._LONGEST_FILE", 1000)
    cell, answers = tmp_path / "a.csv.gz", tmp_path / "dev.json.gz"
    cell.write_bytes(gzip.compress(b'text,label\n"' + b"a\n" * 1000 + b'",1\n'))
    answers.write_bytes(gzip.compress(json.dumps({"data": ["a"] * 1000}).encode()))
    with pytest.raises(TaskError, match="field larger than field limit"):
        list(records_of(find_task("sst2"), cell))
    with pytest.raises(TaskError, match="more than 1,000 bytes; give it in parts"):
        list(read_articles(answers))


# --- tickets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["none", "all"])
def test_the_largest_mask_without_a_pattern(tmp_path: Path, kept: str) -> None:
    """Two thousand million weights in a few kilobytes are as legal as they are cheap."""
    numel = 2**31
    frame = frame_of(0xFF if kept == "all" else 0, numel // 8)
    shape = [2**15, 2**16]
    folder = claiming(
        tmp_path / "t", "zstd", {"a.weight": (shape, numel if kept == "all" else 0, frame)}
    )
    assert sum(file.stat().st_size for file in folder.iterdir()) < 60_000
    with at_most(SEVERAL), within(10):
        compared = compare_masks([str(folder), str(folder)])
        assert compared.similarities[0].average.hamming == 1
        assert inspect_ticket(str(folder)).is_valid


@pytest.mark.parametrize("encoding", ["zstd", "delta"])
def test_more_than_belongs_to_the_stored_bytes(tmp_path: Path, encoding: str) -> None:
    numel = 2**34
    frame = frame_of(0, numel // 8)
    masks = {"a.weight": ([2**17, 2**17], 0 if encoding == "zstd" else numel // 2, frame)}
    folder = claiming(tmp_path / "t", encoding, masks)
    with at_most(SEVERAL), within(1):
        assert "the masks unpack to" in inspect_ticket(str(folder)).problem


def test_many_small_bombs_are_one_large_one(tmp_path: Path) -> None:
    frame = frame_of(0, 2**25)
    masks = {f"m{i}.weight": ([2**28], 0, frame.copy()) for i in range(60)}
    folder = claiming(tmp_path / "t", "zstd", masks)
    with at_most(SEVERAL), within(1):
        assert "the masks unpack to" in inspect_ticket(str(folder)).problem


def test_a_delta_without_a_difference(tmp_path: Path) -> None:
    """A magnitude ticket of any size is a few bytes, and legal; so is a single far position."""
    empty, far = encode_mask(np.ones(0, bool), "zstd"), frame_of(255, 2**33 // 255)
    numel = 2**33
    masks = {"a.weight": ([numel], numel // 2, empty)}
    with at_most(SEVERAL), within(2):
        assert inspect_ticket(str(claiming(tmp_path / "t", "delta", masks))).is_valid
    masks = {"a.weight": ([numel], numel // 2, far)}
    with at_most(SEVERAL), within(2):
        assert "has no end" in inspect_ticket(str(claiming(tmp_path / "t", "delta", masks))).problem


def test_an_honest_large_delta(tmp_path: Path) -> None:
    weight = torch.randn(2**11, 2**11)
    mask = trained_mask(weight, 0.7, 0.05)
    ticket = make_ticket({"a.weight": weight})
    folder = tmp_path / "t"
    ticket.encode("delta", {"a.weight": weight}).save_pretrained(folder)
    assert Ticket.load(folder).encoding in ("delta", "zstd")
    stored = encode_mask(mask.numpy(), "delta", weight.numpy())
    masks = {"a.weight": ([2**11, 2**11], int(mask.sum()), stored)}
    assert inspect_ticket(str(claiming(folder, "delta", masks))).is_valid
    decoded = decode_mask(stored, "delta", (2**11, 2**11), int(mask.sum()), weight.numpy())
    assert np.array_equal(decoded, mask.numpy())


@pytest.mark.parametrize("numel", [1, 8, 9, 2**20 * 8, 2**20 * 8 + 1, 2**21 * 8 + 5])
def test_packed_chunks_and_repacking(numel: int) -> None:
    mask = torch.rand(numel).numpy() < 0.3
    bits, frame = pack(mask), encode_mask(mask, "zstd")
    for stored, encoding in ((bits, "bits"), (frame, "zstd")):
        chunks = list(packed_chunks(stored, encoding, numel))
        assert [len(chunk) for chunk in chunks[:-1]] == [2**20] * (len(chunks) - 1)
        assert np.array_equal(np.concatenate(chunks), bits)
    assert np.array_equal(repacked(frame, "zstd", numel), bits)
    assert np.array_equal(repacked(bits, "bits", numel), frame)


def test_a_frame_longer_than_it_states(tmp_path: Path) -> None:
    """Its header says 8 bytes, its blocks hold a megabyte."""
    honest = bytearray(frame_of(0, 2**20).tobytes())
    short = zstandard.ZstdCompressor(level=1).compress(bytes(8))
    size = zstandard.frame_header_size(bytes(honest))
    lying = short[: zstandard.frame_header_size(short)] + bytes(honest[size:])
    frame = np.frombuffer(lying, np.uint8)
    folder = claiming(tmp_path / "t", "zstd", {"a.weight": ([64], 0, frame)})
    assert not inspect_ticket(str(folder)).is_valid


def test_many_matrices(tmp_path: Path) -> None:
    byte = np.zeros(1, np.uint8)
    masks = {f"m{i}.weight": ([8], 0, byte.copy()) for i in range(5000)}
    folder = claiming(tmp_path / "t", "bits", masks)
    with at_most(SEVERAL + 30), within(10):
        compare_masks([str(folder), str(folder)])


def test_a_header_that_is_all_names(tmp_path: Path) -> None:
    """A head of nothing but a header: it would be parsed into many times its size."""
    small_ticket(mlm_head={"cls.bias": torch.ones(3)}).save_pretrained(tmp_path / "t")
    names = {f"cls.x{i}.weight": torch.ones(0) for i in range(20_000)}
    safetensors.torch.save_file(names, tmp_path / "t" / HEAD_FILE)
    list_again(tmp_path / "t", HEAD_FILE)
    with at_most(SEVERAL), within(2):
        assert "a header of" in inspect_ticket(str(tmp_path / "t")).problem


# --- models -------------------------------------------------------------------------------------

CONFIGURATIONS: dict[str, Any] = {
    "vocab_size": 10**12,
    "hidden_size": 10**9,
    "intermediate_size": 10**12,
    "max_position_embeddings": 10**12,
    "type_vocab_size": 10**12,
    "num_hidden_layers": 10**9,
    "num_labels": 10**9,
    "a few too many layers": {"num_hidden_layers": 9999, "vocab_size": 10**9},
    "float": {"num_hidden_layers": 1e12},
    "nested": {"text_config": {"num_hidden_layers": 10**9}},
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.mark.parametrize("case", CONFIGURATIONS)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_configuration(tmp_path: Path, case: str, family: str) -> None:
    folder = tiny.save(tmp_path / family, family)
    values = CONFIGURATIONS[case]
    config = json.loads((folder / "config.json").read_text())
    changes = values if isinstance(values, dict) else {case: values}
    (folder / "config.json").write_text(json.dumps(config | changes))
    with at_most(SEVERAL), within(15):
        refused = refusal(folder)
    needs_none = ("type_vocab_size", "num_labels", "max_position_embeddings", "nested")
    if family == "modernbert" and case in needs_none:
        return
    assert refused
    assert "\n" not in refused


def refusal(folder: Path) -> str | None:
    try:
        load_encoder(str(folder), with_head=True)
    except ModelError as error:
        return str(error)
    return None


def test_a_tokenizer_that_lets_text_grow(tmp_path: Path, bert: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "m")
    document = json.loads((folder / "tokenizer.json").read_text())
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    for normalizers, is_refused in (([double] * 40, True), ([double] * 3, False)):
        document["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
        (folder / "tokenizer.json").write_text(json.dumps(document))
        if is_refused:
            with pytest.raises(ModelError, match=r"let a text grow more than 1000 times"):
                load_encoder(str(folder), with_head=True)
        else:
            load_encoder(str(folder), with_head=True)


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".txt.gz", ".txt.xz"])
def test_text_that_is_one_line(tmp_path: Path, suffix: str) -> None:
    """Three hundred megabytes of one line in some kilobytes: streamed, and cut."""
    file = tmp_path / f"text{suffix}"
    with (gzip.open if suffix.endswith("gz") else lzma.open)(file, "wb") as out:
        for _ in range(100):
            out.write(b"a" * 2**20)
    with at_most(SEVERAL):
        (source,) = open_source(str(file))
        assert sum(len(document.text) for document in source.documents()) == 100 * 2**20


def repeated(file: Path, text: str, rows: int) -> Path:
    """Write a Parquet file in which a text stands once and is repeated."""
    indices = pa.array(np.zeros(rows, np.int32))
    text_column = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    table = pa.table({"text": text_column, "label": indices})
    pq.write_table(table.cast(pa.schema({"text": pa.string(), "label": pa.int32()})), file)
    return file


def test_a_text_that_is_repeated(tmp_path: Path) -> None:
    """Four hundred megabytes in a file of less than two, which others read at once."""
    file = tmp_path / "text.parquet"
    repeated(file, "word and " * 110_000, 400)
    assert file.stat().st_size < 2 * 2**20
    with at_most(2 * SEVERAL):
        (source,) = open_source(str(file))
        assert sum(1 for _ in source.documents()) == 400
    task = dataclasses.replace(find_task("sst2"), columns=("text",))
    with at_most(2 * SEVERAL):
        assert sum(1 for _ in records_of(task, file)) == 400


def test_a_page_of_zeros(tmp_path: Path) -> None:
    file = tmp_path / "text.parquet"
    text = pa.array(["a" * 2**28 + "b"])
    pq.write_table(pa.table({"text": text}), file, compression="zstd", use_dictionary=False)
    with (
        at_most(SEVERAL),
        pytest.raises(CorpusError, match=r"to 268,\S+, which no text does"),
    ):
        next(open_source(str(file))[0].documents())


def test_more_examples_than_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_EXAMPLES", 1999)
    file = repeated(tmp_path / "own.parquet", "a text", 2000)
    with pytest.raises(TaskError, match=r"row 1999: there are more than 1,999 examples"):
        open_own_task("own", file, file, text_columns=["text"], label_column="label").train()


def test_a_record_that_is_too_long(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl.gz"
    with gzip.open(file, "wb") as out:
        out.write(b'{"text": "')
        for _ in range(300):
            out.write(b"a" * 2**20)
    with at_most(4 * 67):
        (source,) = open_source(str(file))
        with pytest.raises(CorpusError, match="has a line of more than 67108864 bytes"):
            list(source.documents())
