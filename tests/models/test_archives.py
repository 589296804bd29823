"""Compressed folders of models: they come back byte for byte, and a stranger's do no harm."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zstandard
from command_line import Run

from tamtctl.foundations.errors import ModelError, TicketError, UsageError
from tamtctl.models.archives import archive_of, compressed_size, pack, unpack

pytestmark = pytest.mark.usefixtures("working_folder")


def packed(fill: Callable[[tarfile.TarFile], None], name: str = "a.tar.zst") -> Path:
    """Write an archive of any content."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        fill(archive)
    Path(name).write_bytes(zstandard.ZstdCompressor().compress(content.getvalue()))
    return Path(name)


def entry(name: str, content: bytes = b"x", **changes: Any) -> Callable[[tarfile.TarFile], None]:
    def fill(archive: tarfile.TarFile) -> None:
        one = tarfile.TarInfo(name)
        one.size = len(content)
        for key, value in changes.items():
            setattr(one, key, value)
        archive.addfile(one, io.BytesIO(content))

    return fill


def folder_of(zeros: float = 0.7) -> Path:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=50_000).astype("float32")
    weights[generator.random(50_000) < zeros] = 0
    folder = Path("model")
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(weights.tobytes())
    (folder / "config.json").write_text("{}")
    (folder / "empty.txt").touch()
    (folder / "block.bin").write_bytes(bytes(1024))  # whole blocks of the archive
    (folder / f"{'long' * 40}.txt").write_text("a name that takes a header of its own")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_was_packed_comes_back_and_zeros_cost_little() -> None:
    folder = folder_of()
    done = pack(folder, archive_of(Path("other")))
    assert done.path == Path("other.tar.zst")
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    assert done.bytes == done.path.stat().st_size < 0.5 * size
    assert done.bytes == pytest.approx(compressed_size(files), abs=2_000)  # as bench measures it
    found = unpack(done.path, "back")
    assert contents(Path("back")) == contents(folder)
    assert (found.files, found.bytes, found.archive_bytes) == (5, size, done.bytes)
    os.utime(folder / "config.json", (1, 1))
    assert pack(folder, Path("again.tar.zst")).path.read_bytes() == done.path.read_bytes()
    with tarfile.open(
        fileobj=zstandard.ZstdDecompressor().stream_reader(done.path.read_bytes()), mode="r|"
    ) as plain:
        assert sorted(one.name for one in plain) == sorted(contents(folder))


def without_end(archive: tarfile.TarFile) -> None:
    """Claim a size of -1 in the header, as all that follows would be read for it."""
    entry("a", bytes(2_000_000))(archive)
    header = cast(io.BytesIO, archive.fileobj).getbuffer()[: tarfile.BLOCKSIZE]
    header[124:136] = b"\xff" * 12  # -1, in base 256
    header[148:156] = b" " * 8  # the checksum is taken with blanks in its own place
    header[148:156] = b"%06o\0 " % sum(header)


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (entry("../out"), "a path that is not allowed"),
        (entry("a/../../out"), "a path that is not allowed"),
        (entry("/tmp/out"), "a path that is not allowed"),
        (entry("C:\\out"), "a path that is not allowed"),
        (entry("a\x1b[2J"), "a path that is not allowed"),
        (entry("link", b"", **LINK), "'link' in it is no plain file"),
        (entry("hard", b"", **LINK | {"type": tarfile.LNKTYPE}), "is no plain file"),
        (entry("pipe", b"", type=tarfile.FIFOTYPE), "is no plain file"),
        (entry("device", b"", type=tarfile.CHRTYPE), "is no plain file"),
        (entry("bomb", bytes(3_000_000)), "it has more than 0.002 GB; if you trust it"),
        (entry("long", bytes(1_500_000), type=tarfile.GNUTYPE_LONGNAME), "a header in it asks"),
        (without_end, "a file in it has a negative size"),
        (
            entry("a", bytes(2_000_000), pax_headers={"size": "-1"}),
            "a file in it has a negative size",
        ),
        (entry("pax", bytes(1_500_000), type=tarfile.XHDTYPE), "a header in it asks"),
        (lambda archive: [entry("a")(archive), entry("A")(archive)], "'A' is in it twice"),
        (lambda archive: [entry("a")(archive), entry("a/b")(archive)], "cannot unpack"),
        (lambda archive: None, "holds no files"),
    ],
)
def test_a_strangers_archive_does_no_harm(fill: Any, said: str) -> None:
    file = packed(fill)
    before = set(Path().iterdir())
    with pytest.raises(ModelError) as refused:
        unpack(file, "new", limit=0.002)
    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert set(Path().iterdir()) == before
    assert not Path("/tmp/out").exists()


def test_what_is_damaged_is_refused() -> None:
    whole = pack(folder_of(), Path("a.tar.zst")).path.read_bytes()
    parts = zstandard.ZstdDecompressor().stream_reader(whole).read()
    for content, said in (
        (b"", "cannot unpack"),
        (b"nothing of the kind", "cannot unpack"),
        (whole[: len(whole) // 2], "it ends too early|cannot unpack"),
        (whole[:-200], "it ends too early|cannot unpack"),
        (zstandard.ZstdCompressor().compress(parts[:1024]), "it ends too early"),
        (zstandard.ZstdCompressor().compress(b"no archive" * 100), "cannot unpack"),
    ):
        Path("b.tar.zst").write_bytes(content)
        with pytest.raises(ModelError, match=said):
            unpack("b.tar.zst", "new")
        assert not Path("new").exists()
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 1
    Path("b.tar.zst").write_bytes(spoilt)
    with pytest.raises(ModelError):
        unpack("b.tar.zst", "new")
    os.mkfifo("pipe.tar.zst")
    for missing in ("pipe.tar.zst", "none.tar.zst", "model"):
        with pytest.raises(ModelError, match="cannot unpack"):
            unpack(missing, "new")
    with pytest.raises(UsageError, match="--limit must be above 0"):
        unpack("a.tar.zst", "new", limit=float("nan"))
    with pytest.raises(TicketError, match="is not empty"):
        unpack("a.tar.zst", "model")


def test_an_export_is_compressed_and_unpacked_by_the_command_line(run: Run) -> None:
    done = run("export", "nano-0.9", "--output-dir", "sparse", "--compress")
    assert done.code == 0, done.err
    assert "compressed  " in done.out
    assert "sparse.tar.zst" in done.out
    assert Path("sparse.tar.zst").stat().st_size < 0.7 * sum(
        map(len, contents(Path("sparse")).values())
    )
    back = run("unpack", "sparse.tar.zst", "--output-dir", "back")
    assert back.code == 0, back.err
    assert contents(Path("back")) == contents(Path("sparse"))
    refused = run("export", "nano-0.9", "--output-dir", "sparse", "--compress")
    assert refused.code in (1, 2)
    small = run("unpack", "sparse.tar.zst", "--output-dir", "small", "--limit", "0.001")
    assert small.code == 1
    assert small.err.count("\n") == 1
