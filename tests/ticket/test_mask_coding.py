"""Masks as stored: every encoding gives back every mask, and refuses what is no mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import magnitude_masks
from small_tickets import list_again, rewrite_json, trained_mask
from torch import Tensor

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.untrusted import Defect
from tamtctl.ticket.format.mask_codec import (
    ENCODINGS,
    Stored,
    check_stored,
    decode_mask,
    encode_mask,
    gap_bytes,
    magnitude_mask,
    positions,
)
from tamtctl.ticket.ticket import Ticket


def entropy(differs: Tensor, given: Tensor) -> float:
    """Return the bytes that a difference takes at least, when the mask it is one of is known."""

    def bits(part: Tensor) -> float:
        p = part.double().mean().item() if part.numel() else 0.0
        return 0.0 if p in (0, 1) else part.numel() * -(p * np.log2(p) + (1 - p) * np.log2(1 - p))

    return (bits(differs[given]) + bits(differs[~given])) / 8


# --- codes --------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 3000), max_size=60).map(sorted))
def test_gap_bytes(where: list[int]) -> None:
    coded = gap_bytes(np.array(where, dtype=np.int64))
    assert positions(coded).tolist() == where
    # Written out once more, byte by byte.
    expected, last = [], -1
    for position in where:
        gap = position - last - 1
        expected += [255] * (gap // 255) + [gap % 255]
        last = position
    assert coded.tolist() == expected


@settings(max_examples=150, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple),
    density=st.sampled_from([0.0, 0.02, 0.3, 0.98, 1.0]),
    encoding=st.sampled_from(ENCODINGS),
    seed=st.integers(0, 99),
)
def test_every_mask_comes_back(
    shape: tuple[int, ...], density: float, encoding: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator).round(decimals=1).numpy()  # with many ties
    mask = (torch.rand(shape, generator=generator) < density).numpy()
    stored = encode_mask(mask, encoding, weight)
    kept = int(mask.sum())
    check_stored(stored, encoding, mask.size, kept)
    assert np.array_equal(decode_mask(stored, encoding, shape, kept, weight), mask)


def test_the_magnitude_mask_is_the_one_of_pruning() -> None:
    weight = torch.randn(50, 60)
    expected = magnitude_masks({"w": weight}, 0.7)["w"]
    for array in (weight.numpy(), weight.double().numpy(), np.asfortranarray(weight.numpy())):
        assert np.array_equal(magnitude_mask(array, int(expected.sum())), expected.numpy())


@pytest.mark.parametrize("sparsity", [0.5, 0.6, 0.7])
def test_size_of_a_trained_mask(sparsity: float) -> None:
    weight = torch.randn(1200, 1000, generator=torch.Generator().manual_seed(0))
    mask = trained_mask(weight, sparsity, 0.05)
    reference = torch.from_numpy(magnitude_mask(weight.numpy(), int(mask.sum())))
    size = encode_mask(mask.numpy(), "delta", weight.numpy()).size
    assert size <= 1.05 * entropy(mask ^ reference, reference)


def frame(content: bytes) -> Stored:
    return np.frombuffer(bytearray(zstandard.ZstdCompressor().compress(content)), np.uint8)


def without_size(content: bytes) -> Stored:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return np.frombuffer(bytearray(compressor.compress(content)), np.uint8)


def test_bombs_and_garbage_are_refused() -> None:
    good = frame(bytes([5, 7]))
    huge = frame(bytes(50_000_000))
    assert huge.size < 10_000
    cases: list[tuple[Stored, str, str]] = [
        (huge, "zstd", "does not fit the shape"),
        (huge, "delta", "does not fit the shape"),
        (without_size(b"ab"), "delta", "does not fit the shape"),
        (good[:-1], "delta", "zstd"),
        (np.zeros(9, np.uint8), "delta", "no zstd frame"),
        (np.zeros(0, np.uint8), "zstd", "no zstd frame"),
        (frame(bytes([255, 5])), "delta", "differing positions|outside"),
        (frame(bytes([5, 255])), "delta", "no end"),
        (frame(bytes([200] * 6)), "delta", "outside"),
        (frame(bytes([0] * 5)), "delta", "differing positions"),
        (frame(bytes([0] * 1000)), "delta", "differing positions"),
        (frame(bytes(124)), "zstd", "124 bytes uncompressed, not 125"),
        (frame(bytes(125)), "zstd", "keeps 0 weights, but 300"),
    ]
    for stored, encoding, message in cases:
        with pytest.raises(Defect, match=message):
            check_stored(stored, encoding, 1000, 300)
    check_stored(good, "delta", 1000, 300)


@settings(max_examples=400, deadline=None)
@given(
    encoding=st.sampled_from(["zstd", "delta"]),
    position=st.integers(0, 200),
    bit=st.integers(0, 7),
    cut=st.integers(0, 3),
)
def test_damage_is_refused_or_gives_a_mask(
    encoding: str, position: int, bit: int, cut: int
) -> None:
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    mask = trained_mask(weight, 0.7, 0.1)
    kept = int(mask.sum())
    stored = encode_mask(mask.numpy(), encoding, weight.numpy())
    stored[position % len(stored)] ^= 1 << bit
    stored = stored[: len(stored) - cut]
    try:
        check_stored(stored, encoding, mask.numel(), kept)
        decoded = decode_mask(stored, encoding, (30, 20), kept, weight.numpy())
    except Defect:
        return
    assert int(decoded.sum()) == kept


# --- tickets ------------------------------------------------------------------------------------


@pytest.fixture
def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"embeddings.weight": (90, 50), "layer.0.weight": (64, 48)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def ticket(weights: dict[str, Tensor]) -> Ticket:
    return Ticket.create(
        weights,
        {name: trained_mask(weight, 0.7, 0.05) for name, weight in weights.items()},
        base_model_id="nano",
        revision=None,
        model_type="bert",
        target_sparsity=0.7,
        method="tamt",
        objective="mlm",
        search={},
        metrics={},
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_ticket_in_every_encoding(
    ticket: Ticket, weights: dict[str, Tensor], tmp_path: Path, encoding: str
) -> None:
    ticket.encode(encoding, weights).save_pretrained(tmp_path / "t")
    assert json.loads((tmp_path / "t" / "ticket.json").read_text())["encoding"] == encoding
    again = Ticket.load(tmp_path / "t")
    decoded = again.decode(weights)
    assert decoded.encoding == "bits"
    assert all(torch.equal(decoded.mask(name), ticket.mask(name)) for name in weights)
    back = again.encode("bits", weights).files()
    assert back == ticket.files()  # byte for byte, whatever way it took
    unchecked = [check for check in Ticket.verify(tmp_path / "t") if check.passed is None]
    assert [check.name for check in unchecked] == (["masks"] if encoding == "delta" else [])


def test_delta_is_the_smallest(ticket: Ticket, weights: dict[str, Tensor]) -> None:
    sizes = {e: ticket.encode(e, weights).stored_bytes for e in ENCODINGS}
    assert sizes["delta"] < sizes["zstd"] / 2


def test_delta_becomes_zstd_where_that_is_smaller(weights: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(2)
    masks = {n: torch.rand(w.shape, generator=generator) < 0.1 for n, w in weights.items()}
    ticket = Ticket.create(
        weights, masks, base_model_id="nano", revision=None, model_type="bert", method="random",
        target_sparsity=0.9, objective=None, search={}, metrics={}, allocation="free",
    )  # fmt: skip
    smallest = ticket.encode("delta", weights)
    assert smallest.encoding == "zstd"
    assert all(torch.equal(smallest.mask(name), mask) for name, mask in masks.items())


def test_delta_needs_the_right_weights(ticket: Ticket, weights: dict[str, Tensor]) -> None:
    delta = ticket.encode("delta", weights)
    with pytest.raises(TicketError, match=r"decode\(weights\)"):
        delta.mask("layer.0.weight")
    others = weights | {"layer.0.weight": weights["layer.0.weight"] + 1e-6}
    for call in (delta.decode, lambda w: ticket.encode("delta", w)):
        with pytest.raises(TicketError, match="does not hold the pre-trained weights of nano"):
            call(others)
    with pytest.raises(TicketError, match=r"the weight of embeddings\.weight is missing"):
        delta.encode("bits")
    with pytest.raises(TicketError, match="no encoding 'huffman'"):
        ticket.encode("huffman")


def test_a_forged_difference_is_found_with_the_weights(
    ticket: Ticket, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    """Two more weights kept, none less: possible as far as one can tell without the weights."""
    delta = ticket.encode("delta", weights)
    weight = weights["layer.0.weight"].numpy()
    pruned = np.flatnonzero(~magnitude_mask(weight, delta.parameters["layer.0.weight"].kept))[:2]
    stored = dict(delta.stored) | {"layer.0.weight": frame(gap_bytes(pruned).tobytes())}
    delta.save_pretrained(tmp_path / "t")
    safetensors.numpy.save_file(stored, tmp_path / "t" / "mask.safetensors")
    list_again(tmp_path / "t")
    forged = Ticket.load(tmp_path / "t")
    with pytest.raises(TicketError, match=r"mask of layer\.0\.weight is damaged"):
        forged.decode(weights)


def test_another_encoding_than_stated(ticket: Ticket, tmp_path: Path) -> None:
    ticket.save_pretrained(tmp_path / "t")
    for encoding in ("zstd", "delta"):
        rewrite_json(tmp_path / "t", lambda d, e=encoding: d.update(encoding=e))
        with pytest.raises(TicketError, match="no zstd frame"):
            Ticket.load(tmp_path / "t")
