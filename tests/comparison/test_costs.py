"""What a comparison does once, however many masks it measures."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from passes import counted_passes
from samples import ticket_for
from small_search import RECIPE

from tamtctl.comparison.api import compare
from tamtctl.comparison.config import CompareConfig
from tamtctl.data.corpus import load_corpus
from tamtctl.models.encoder import sha256_of_weight
from tamtctl.models.loading import load_tokenizer
from tamtctl.pruning.one_shot import reference_masks
from tamtctl.ticket.format.mask_codec import decode_mask
from tamtctl.ticket.ticket import Ticket

COUNTED: dict[CodeType, str] = {
    sha256_of_weight.__code__: "weights hashed",
    reference_masks.__code__: "sets of magnitude masks",
    Ticket.create.__func__.__code__: "tickets made",  # type: ignore[attr-defined]
    CompareConfig._check_together.__code__: "sweeps checked",
    decode_mask.__code__: "masks decoded",
}


def test_a_sweep_measures_every_mask_once(
    tiny_model: Path,
    text_file: Path,
    working_folder: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Searches know what others measured, and the comparison what its searches did."""
    monkeypatch.setenv("TAMTCTL_CACHE", str(Path("cache").absolute()))
    Path("tiny.toml").write_text(RECIPE)
    sweep = CompareConfig(
        sparsities=(0.7,),
        methods=("fisher", "obs", "magnitude"),
        recipe="tiny.toml",
        model=str(tiny_model),
        corpus=(str(text_file),),
        evaluation_blocks=8,
        device="cpu",
    )
    with counted_passes() as passes:
        compare(sweep)
    # Dense in MLM; the three masks, and a random one beside which searches stand, in MLM, and in
    # KD with the teacher; the three with another allocation in MLM.
    assert passes.count(8) == 1 + 3 * 4 + 3
    # Before any of it, one pass over the training text for all criteria, and three rows to see
    # which matrices are used; behind it, both budgets on a part of the training text.
    text = load_corpus((str(text_file),), load_tokenizer(str(tiny_model)))
    whole = text.training_text(16, load_tokenizer(str(tiny_model)), name="text")
    last = len(passes) - passes[::-1].index(8)
    assert sum(passes[: passes.index(8)]) == len(whole) + 3
    assert sum(passes[last:]) == 2 * 3 * (len(whole) // 10)
    with counted_passes() as again:
        compare(sweep)
    assert not again


def test_what_does_not_change_from_mask_to_mask_is_done_once(
    tiny_model: Path, text_file: Path, working_folder: None
) -> None:
    paths = [ticket_for(tiny_model, Path(f"ticket-{s}-{e}"), s, e) for s, e in
             ((0.5, "bits"), (0.5, "zstd"), (0.7, "delta"))]  # fmt: skip
    matrices = len(Ticket.load(paths[0]).parameters)
    counts: Counter[str] = Counter()

    def count(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code in COUNTED:
            counts[COUNTED[frame.f_code]] += 1

    sys.setprofile(count)
    try:
        found = compare(
            CompareConfig(
                tickets=tuple(map(str, paths)),
                corpus=(str(text_file),),
                sequence_length=16,
                evaluation_blocks=8,
                device="cpu",
            )
        )
    finally:
        sys.setprofile(None)
    assert len(found.subnetworks) == 1 + 2 * 4 + 3
    assert counts["weights hashed"] == matrices
    assert counts["sets of magnitude masks"] == 2  # of two sparsities
    assert counts["masks decoded"] <= matrices  # those of one ticket, which are differences
    assert counts["sweeps checked"] == 1
    assert counts["tickets made"] == 0
