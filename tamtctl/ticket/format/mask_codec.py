"""How a mask is stored: as bits, as compressed bits, or as what differs from the magnitude mask.

    bits    one bit per weight, see `tamtctl.foundations.masks`
    zstd    the same bytes in one zstd frame
    delta   the positions that differ from the magnitude mask, as gap bytes in one zstd frame

A trained mask differs in a few per cent of its positions from the *magnitude mask*, which keeps as
many weights of the matrix as it does: those with the largest |w|. Whoever has the pre-trained
weights can compute that, so that only the difference needs to be stored.

*Gap bytes*: the differing positions in row-major order, ascending, each as the number of equal
positions since the one before; a gap of 255 or more takes one byte 255 for every 255, and the last
byte is the rest, below 255.

What is read here may come from anybody: decoding takes no more memory than the mask has weights,
and checking and comparing take a few megabytes. Time follows the bytes that are stored, too: what
unpacks to far more than any mask of that size would is refused by `check_contents`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from tamtctl.foundations.masks import (
    count_kept,
    has_spare_bits_set,
    largest,
    pack,
    packed_size,
    unpack,
)
from tamtctl.foundations.untrusted import Defect

ENCODINGS = ("bits", "zstd", "delta")

Mask = NDArray[np.bool_]  # of any shape
Stored = NDArray[np.uint8]  # of one dimension

_LEVEL = 1  # higher ones look for repetitions, which a mask does not have, and come out larger
_CHUNK = 2**20
_MAX_WINDOW = 2**23  # bytes of memory that a frame may ask its reader for; RFC 8878 recommends it
_ESCAPE = 255

# So much may be unpacked whatever is stored, as many bits as the largest encoders have weights; and
# so many times the stored bytes. A mask without any pattern can hardly be compressed at all.
_UNPACKED_ANYWAY = 2**28
_UNPACKED_PER_BYTE = 1024


def encode_mask(mask: Mask, encoding: str, weight: NDArray[Any] | None = None) -> Stored:
    """Return a mask as stored.

    Args:
        mask: The mask, of any shape.
        encoding: One of `ENCODINGS`.
        weight: The pre-trained weight, of the same shape; ``delta`` needs it.
    """
    if encoding == "bits":
        return pack(mask)
    if encoding == "zstd":
        return _compressed(pack(mask))
    return _compressed(gap_bytes(flips(mask, _needed(weight))))


def flips(mask: Mask, weight: NDArray[Any]) -> NDArray[np.int64]:
    """Return the flat positions at which a mask differs from the magnitude mask, ascending, (k,).

    Args:
        mask: The mask, of any shape.
        weight: The pre-trained weight, of the same shape.
    """
    return np.flatnonzero(mask ^ magnitude_mask(weight, int(np.count_nonzero(mask))))


def decode_mask(
    stored: Stored,
    encoding: str,
    shape: tuple[int, ...],
    kept: int,
    weight: NDArray[Any] | None = None,
) -> Mask:
    """Return the mask that `encode_mask` was given; it keeps ``kept`` weights.

    Raises:
        Defect: What is stored is damaged, or belongs to other weights.
    """
    numel = int(np.prod(shape, dtype=np.int64))
    if encoding == "bits":
        return unpack(stored, shape)
    if encoding == "zstd":
        return unpack(decompressed(stored, packed_size(numel)), shape)
    mask = magnitude_mask(_needed(weight), kept)
    flip(mask, positions(decompressed(stored, numel)))
    if np.count_nonzero(mask) != kept:
        raise Defect("the difference belongs to other weights")
    return mask


def check_stored(stored: Stored, encoding: str, numel: int, kept: int) -> None:
    """Raise Defect unless what is stored is a mask of ``numel`` weights that keeps ``kept``.

    A mask stored as ``delta`` is checked without the weights: all its positions must be inside the
    matrix, and it must be able to keep as many weights as stated.
    """
    if encoding == "delta":
        _check_gaps(stored, numel, kept)
        return
    if encoding == "bits":
        count, last = count_kept(stored), stored[-1:]
    else:
        count, last = _count_kept_compressed(stored, packed_size(numel))
    if has_spare_bits_set(last, numel):
        raise Defect("spare bits are not zero")
    if count != kept:
        raise Defect(f"keeps {count} weights, but {kept} are stated")


def check_contents(stored: Mapping[str, Stored], encoding: str, numels: Mapping[str, int]) -> None:
    """Raise Defect if masks unpack to more than belongs to what is stored, before they are.

    Args:
        stored: Name → mask as stored.
        encoding: The encoding of all of them.
        numels: Name → number of weights.
    """
    if encoding == "bits":
        return
    size = sum(_content_size(_frame(mask)) for mask in stored.values())
    limit = _UNPACKED_ANYWAY + _UNPACKED_PER_BYTE * sum(mask.size for mask in stored.values())
    if encoding == "delta":  # a gap is as long as it is, however few positions there are
        limit += sum(numel // _ESCAPE + 1 for numel in numels.values())
    if size > limit:
        raise Defect(f"the masks unpack to {size} bytes; {limit} are plausible for their size")


def packed_chunks(stored: Stored, encoding: str, numel: int) -> Iterator[NDArray[np.uint8]]:
    """Yield a mask as packed bits, a megabyte at a time; all masks of a size in equal pieces.

    Args:
        stored: The mask as stored.
        encoding: ``bits`` or ``zstd``; of ``delta`` the bits follow from the weights alone.
        numel: Number of weights.

    Raises:
        Defect: What is stored is damaged.
    """
    size = packed_size(numel)
    if encoding == "bits":
        for start in range(0, size, _CHUNK):
            yield stored[start : start + _CHUNK]
        return
    rest = bytearray()
    for chunk in _chunks(stored, size):
        rest += chunk
        while len(rest) >= _CHUNK:
            yield np.frombuffer(bytes(rest[:_CHUNK]), np.uint8)
            del rest[:_CHUNK]
    if rest:
        yield np.frombuffer(bytes(rest), np.uint8)


def repacked(stored: Stored, encoding: str, numel: int) -> Stored:
    """Return a mask in the other of ``bits`` and ``zstd``, without unpacking a single weight.

    Args:
        stored: The mask as stored.
        encoding: In which it is.
        numel: Number of weights.

    Raises:
        Defect: What is stored is damaged.
    """
    if encoding == "bits":
        return _compressed(stored)
    return decompressed(stored, packed_size(numel))


def magnitude_mask(weight: NDArray[Any], kept: int) -> Mask:
    """Return the mask that keeps the ``kept`` largest |w|; among equals the lower flat index.

    The comparison is made in float32, so that every program finds the same mask.
    """
    size = np.abs(weight.astype(np.float32, copy=False))
    return largest(size.ravel(), kept).reshape(size.shape)


def gap_bytes(ascending: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return ascending positions, shape (k,), as gap bytes, shape (at least k,)."""
    gaps = np.diff(ascending, prepend=-1) - 1  # (k,)
    last_bytes = np.cumsum(gaps // _ESCAPE + 1) - 1  # (k,)
    coded = np.full(int(last_bytes[-1]) + 1 if len(gaps) else 0, _ESCAPE, dtype=np.uint8)
    coded[last_bytes] = gaps % _ESCAPE
    return coded


def positions(coded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the positions, shape (k,), that `gap_bytes` was given."""
    last_bytes = np.flatnonzero(coded != _ESCAPE)  # (k,)
    return np.cumsum(coded, dtype=np.int64)[last_bytes] + np.arange(len(last_bytes))


def flip(mask: Mask, where: NDArray[np.int64]) -> None:
    """Invert a mask at the given flat positions, in place."""
    flat = mask.reshape(-1)  # a view: masks are contiguous
    if len(where) and where[-1] >= flat.size:
        raise Defect("a position lies outside the matrix")
    flat[where] ^= True


def decompressed(stored: Stored, limit: int) -> NDArray[np.uint8]:
    """Return the content of a zstd frame; more than ``limit`` bytes are refused."""
    return np.frombuffer(bytearray().join(_chunks(stored, limit)), dtype=np.uint8)


def _needed(weight: NDArray[Any] | None) -> NDArray[Any]:
    if weight is None:
        raise ValueError("encoding 'delta' needs the pre-trained weight")
    return weight


def _compressed(content: NDArray[np.uint8]) -> Stored:
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(content.tobytes())
    return np.frombuffer(bytearray(frame), dtype=np.uint8)


def _chunks(stored: Stored, limit: int) -> Iterator[bytes]:
    """Decompress at most ``limit`` bytes, a megabyte at a time."""
    frame = _frame(stored)
    size = _content_size(frame)
    if size > limit:
        raise Defect("the stated size of its content does not fit the shape")
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(frame)
        found = 0
        while chunk := reader.read(_CHUNK):
            found += len(chunk)
            if found > size:
                raise Defect("its content is longer than it states")
            yield chunk
    except zstandard.ZstdError as error:
        raise Defect("is no zstd frame, or a damaged one") from error
    if found != size:
        raise Defect("is a cut-off zstd frame")


def _frame(stored: Stored) -> bytes:
    return stored.tobytes()


def _content_size(frame: bytes) -> int:
    """Return the size that a frame states for its content."""
    try:
        size = zstandard.get_frame_parameters(frame).content_size
    except zstandard.ZstdError as error:
        raise Defect("is no zstd frame, or a damaged one") from error
    if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise Defect("the stated size of its content does not fit the shape")
    return int(size)


def _count_kept_compressed(stored: Stored, size: int) -> tuple[int, NDArray[np.uint8]]:
    """Return how many bits are set, and the last byte."""
    count, found, last = 0, 0, b"\0"
    for chunk in _chunks(stored, size):
        count += int(np.bitwise_count(np.frombuffer(chunk, np.uint8)).sum(dtype=np.int64))
        found, last = found + len(chunk), chunk[-1:]
    if found != size:
        raise Defect(f"is {found} bytes uncompressed, not {size}")
    return count, np.frombuffer(last, np.uint8)


def _sum(coded: NDArray[np.uint8]) -> int:
    """Return the sum of bytes, several times as fast as numpy adds them up one by one."""
    whole = len(coded) - len(coded) % 8
    words = coded[:whole].view(np.uint64)
    low = np.uint64(0x00FF00FF00FF00FF)
    pairs = (words & low) + ((words >> np.uint64(8)) & low)  # (n / 8,), of four sums below 511
    quads = pairs.view(np.uint16)  # (n / 2,)
    return int(quads.sum(dtype=np.uint64)) + int(coded[whole:].sum(dtype=np.int64))


def count_flips(stored: Stored, numel: int) -> int:
    """Return in how many positions a mask that is stored as ``delta`` differs.

    Raises:
        Defect: What is stored is damaged.
    """
    return sum(len(chunk) - chunk.count(_ESCAPE) for chunk in _chunks(stored, numel))


def _check_gaps(stored: Stored, numel: int, kept: int) -> None:
    differing, equal, last = 0, 0, 0
    for chunk in _chunks(stored, numel):
        coded = np.frombuffer(chunk, np.uint8)
        differing += len(coded) - chunk.count(_ESCAPE)
        equal, last = equal + _sum(coded), chunk[-1]
        if equal + differing > numel:
            raise Defect("a position lies outside the matrix")
    if last == _ESCAPE:
        raise Defect("the last gap has no end")
    # As many weights are kept that the magnitude mask prunes as the other way round.
    if differing % 2 or differing > 2 * min(kept, numel - kept):
        raise Defect(f"{differing} differing positions cannot leave {kept} weights kept")
