"""The encodings of a mask: bits, compressed bits, or the difference from the magnitude mask.

    bits    one bit per weight, see `tamtctl.foundations.masks`
    zstd    the same bytes in one zstd frame
    delta   the positions that differ from the magnitude mask, as gap bytes in one zstd frame

The *magnitude mask* of a matrix keeps the weights with the largest |w|, as many as the mask keeps.
A trained mask differs from it in a few per cent of the positions. With the pre-trained weights the
magnitude mask can be computed, so that only the difference needs to be stored.

*Gap bytes* encode the differing positions in row-major order, ascending. Each is stored as its gap,
the number of equal positions since the one before. A gap takes one byte 255 for every full 255, and
a last byte below 255 for the rest.

The bytes may come from anybody. Decoding takes no more memory than a byte for each weight, and
checking and comparing take a few megabytes. `check_contents` refuses masks that unpack to far more
than a mask of their size could, so that time is limited by the stored bytes, too.
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

_LEVEL = 1  # higher levels look for repetitions, which masks lack, and give larger files
_CHUNK = 2**20
_MAX_WINDOW = 2**23  # bytes of memory that a frame may require; the limit that RFC 8878 recommends
_ESCAPE = 255

# Bytes that may be unpacked in any case, enough for the largest encoders; and further bytes for
# each stored byte. A mask without regularities can hardly be compressed.
_UNPACKED_ANYWAY = 2**28
_UNPACKED_PER_BYTE = 1024


def encode_mask(mask: Mask, encoding: str, weight: NDArray[Any] | None = None) -> Stored:
    """Return a mask in an encoding, shape (bytes,).

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
    """Return the mask of this shape that `encode_mask` encoded; it keeps ``kept`` weights.

    Raises:
        Defect: The bytes are damaged, or belong to other weights.
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
    """Check that an encoded mask has ``numel`` weights and keeps ``kept``.

    A ``delta`` is checked without the weights: all positions must be inside the matrix, and their
    number must be possible for a mask that keeps so many.

    Raises:
        Defect: The bytes are not such a mask.
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
    """Check, before unpacking, that masks do not unpack to implausibly many bytes.

    Args:
        stored: Name → mask as stored.
        encoding: The encoding of all of them.
        numels: Name → number of weights.

    Raises:
        Defect: They do.
    """
    if encoding == "bits":
        return
    size = sum(_content_size(_frame(mask)) for mask in stored.values())
    limit = _UNPACKED_ANYWAY + _UNPACKED_PER_BYTE * sum(mask.size for mask in stored.values())
    if encoding == "delta":  # a few long gaps compress well
        limit += sum(numel // _ESCAPE + 1 for numel in numels.values())
    if size > limit:
        raise Defect(f"the masks unpack to {size} bytes; {limit} are plausible for their size")


def packed_chunks(stored: Stored, encoding: str, numel: int) -> Iterator[NDArray[np.uint8]]:
    """Yield a mask as packed bits, a megabyte at a time; equal sizes give equal pieces.

    Args:
        stored: The mask as stored.
        encoding: ``bits`` or ``zstd``; ``delta`` has no bits without the weights.
        numel: Number of weights.

    Raises:
        Defect: The bytes are damaged.
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
    """Return a mask in the other encoding of ``bits`` and ``zstd``; the bits stay packed.

    Args:
        stored: The mask as stored.
        encoding: Its present encoding.
        numel: Number of weights.

    Raises:
        Defect: The bytes are damaged.
    """
    if encoding == "bits":
        return _compressed(stored)
    return decompressed(stored, packed_size(numel))


def magnitude_mask(weight: NDArray[Any], kept: int) -> Mask:
    """Return the mask that keeps the ``kept`` largest |w|; of equal ones, those of lower index.

    Weights are compared in float32, so that every program finds the same mask.
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
    """Return the content of a zstd frame.

    Raises:
        Defect: The frame is damaged, or unpacks to more than ``limit`` bytes.
    """
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
    """Return how many bits of an unpacked zstd mask are set, and its last byte."""
    count, found, last = 0, 0, b"\0"
    for chunk in _chunks(stored, size):
        count += int(np.bitwise_count(np.frombuffer(chunk, np.uint8)).sum(dtype=np.int64))
        found, last = found + len(chunk), chunk[-1:]
    if found != size:
        raise Defect(f"is {found} bytes uncompressed, not {size}")
    return count, np.frombuffer(last, np.uint8)


def _sum(coded: NDArray[np.uint8]) -> int:
    """Return the sum of bytes, several times as fast as numpy's own sum."""
    whole = len(coded) - len(coded) % 8
    words = coded[:whole].view(np.uint64)
    low = np.uint64(0x00FF00FF00FF00FF)
    pairs = (words & low) + ((words >> np.uint64(8)) & low)  # (n / 8,), of four sums below 511
    quads = pairs.view(np.uint16)  # (n / 2,)
    return int(quads.sum(dtype=np.uint64)) + int(coded[whole:].sum(dtype=np.int64))


def count_flips(stored: Stored, numel: int) -> int:
    """Return in how many positions a mask stored as ``delta`` differs from the magnitude mask.

    Raises:
        Defect: The bytes are damaged.
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
    # Both masks keep as many weights, so half of the positions differ in either direction.
    if differing % 2 or differing > 2 * min(kept, numel - kept):
        raise Defect(f"{differing} differing positions cannot leave {kept} weights kept")
