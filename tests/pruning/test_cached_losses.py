"""What a mask's loss was is known again by content, and never taken for that of something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from passes import counted_passes
from small_search import small_config
from torch import Tensor

from tamtctl.data.batch import Batch
from tamtctl.data.batches import training_batches
from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.devices import Compute
from tamtctl.models.content import content_digest
from tamtctl.models.encoder import Encoder
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.objectives import TERMS, Term
from tamtctl.pruning.searching.api import search
from tamtctl.pruning.searching.cached_losses import CachedLosses
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.pruning.statistics.calibration import SEED, calibration_batches, rows_at_once
from tamtctl.ticket.texts import TextSource
from tamtctl.ticket.ticket import Ticket

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture(autouse=True)
def empty_cache(working_folder: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "cache"))


def opened(model: Path, text: Path) -> HeldOutText:
    source = TextSource((str(text),), sequence_length=16)
    return HeldOutText.open(str(model), source, limit=8, compute=CPU)


def test_a_comparison_knows_what_a_search_measured(tiny_model: Path, text_file: Path) -> None:
    first = search(small_config(tiny_model, text_file, steps=1), output_dir="first")
    with counted_passes() as passes:
        wanted = small_config(tiny_model, text_file, steps=3, learning_rate=0.05)
        again = search(wanted, output_dir="again")
    assert again.flips > 0
    # Two that are timed, three steps, and the new ticket: the other masks are known.
    assert len(passes) == 2 + 3 + 1
    assert {k: v for k, v in again.losses.items() if k != "ticket"} == {
        k: v for k, v in first.losses.items() if k != "ticket"
    }
    text = opened(tiny_model, text_file)
    weights = load_encoder(str(tiny_model), with_head=False).weights
    for masks, mlm in (
        (Ticket.load(again.ticket).full_masks(weights), again.losses["ticket"]),
        (None, again.losses["dense"]),
    ):
        with counted_passes() as passes:
            found = text.losses(masks)
        # KD takes the teacher and the student; the dense model's distance to itself takes nothing.
        assert len(passes) == (0 if masks is None else 2)
        assert found["mlm"].mean == mlm
        with counted_passes() as passes:
            text.losses(masks)
        assert not passes


def test_a_model_without_its_head_knows_what_was_measured_with_it(
    tiny_model: Path, text_file: Path
) -> None:
    first = search(small_config(tiny_model, text_file, objective="kd", steps=1), output_dir="kd")
    weights = load_encoder(str(tiny_model), with_head=False).weights
    with counted_passes() as passes:
        found = opened(tiny_model, text_file).losses(Ticket.load(first.ticket).full_masks(weights))
    assert found["kd"].mean == first.losses["ticket"]
    assert len(passes) == 1  # MLM alone


def test_a_pooler_that_the_checkpoint_lacks_is_no_part_of_a_model(tiny_model: Path) -> None:
    digests = {
        content_digest(load_encoder(str(tiny_model), with_head=has_head), with_head=False)
        for has_head in (True, False, False)  # of which the last two make a random one each
    }
    assert len(digests) == 1


def test_choices_are_made_on_text_that_no_criterion_saw(tiny_model: Path, text_file: Path) -> None:
    text = opened(tiny_model, text_file)
    whole, part = text.training_text(), text.of_training()
    seen = calibration_batches(
        training_batches(whole, rows_at_once(16), SEED, noise=None),
        16 * len(whole) // 2,
        len(whole),
    )
    rows = {tuple(row) for batch in seen for row in batch.input_ids.tolist()}
    chosen = part.cut.sequences.rows(np.arange(len(part.cut.sequences)))
    assert len(chosen) == min(64, len(whole) // 10)
    assert not rows & {tuple(row) for row in chosen.tolist()}
    held_out = text.cut.sequences.rows(np.arange(8))
    assert not {tuple(r) for r in held_out.tolist()} & {tuple(r) for r in chosen.tolist()}
    assert part.losses(None)["mlm"].mean != text.losses(None)["mlm"].mean


def test_no_search_fails_for_a_cache_that_cannot_be_written(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "losses").write_text("a file where a folder should be")
    assert search(small_config(tiny_model, text_file, steps=1), output_dir="run").losses


def kept_losses() -> list[Path]:
    """The files of losses that are kept, of which there must be some."""
    files = list((cache_dir() / "losses").iterdir())
    assert files
    return files


def test_what_is_damaged_is_measured_anew(tiny_model: Path, text_file: Path) -> None:
    text = opened(tiny_model, text_file)
    whole = text.losses(None)["mlm"].mean
    for damage in ("", "{}", '{"mlm": {"sums": "x", "counts": [1]}}', "[]"):
        for file in kept_losses():
            file.write_text(damage)
        assert text.losses(None)["mlm"].mean == whole


def test_a_loss_has_one_meaning_alone_and_in_a_sum(tiny_model: Path, text_file: Path) -> None:
    """A training for both sees text with masked tokens; the KD loss is measured without them."""
    both = search(
        small_config(tiny_model, text_file, objective="mlm+kd", steps=1), output_dir="both"
    )
    weights = load_encoder(str(tiny_model), with_head=False).weights
    masks = Ticket.load(both.ticket).full_masks(weights)
    found = opened(tiny_model, text_file).losses(masks)
    assert found["mlm"].mean + found["kd"].mean == pytest.approx(both.losses["ticket"], abs=1e-6)


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return load_encoder(str(tiny_model), with_head=True)


def _of(encoder: Encoder) -> tuple[CachedLosses, list[Batch], dict[str, Tensor]]:
    rows = torch.arange(24).reshape(2, 12) % 20 + 5
    places = torch.tensor([1, 14])
    batch = Batch(rows, places, rows.flatten()[places])
    masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in encoder.weights.items()}
    return CachedLosses.of(encoder, ["mlm", "kd"], CPU), [batch], masks


Change = Callable[[CachedLosses, Batch, dict[str, Tensor], Encoder], object]


def _one_pruned(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    (name, *_) = masks
    changed = masks[name].clone()
    changed.flatten()[-1] = False
    return masks | {name: changed}


CHANGES: dict[str, Change] = {
    "another objective": lambda k, b, m, e: k.file_of("kd", [b], m),
    "one weight of the mask": lambda k, b, m, e: k.file_of("mlm", [b], _one_pruned(m)),
    "one token": lambda k, b, m, e: k.file_of("mlm", [replace(b, input_ids=b.input_ids + 1)], m),
    "other masked places": lambda k, b, m, e: k.file_of(
        "mlm", [replace(b, masked=b.masked + 1)], m
    ),
    "other labels": lambda k, b, m, e: k.file_of("mlm", [replace(b, labels=b.labels + 1)], m),
    "more text": lambda k, b, m, e: k.file_of("mlm", [b, b], m),
    "padding": lambda k, b, m, e: k.file_of("mlm", [b.padded_behind(np.array([12, 9]))], m),
    "rows of another length": lambda k, b, m, e: k.file_of(
        "mlm", [replace(b, input_ids=b.input_ids.reshape(3, 8))], m
    ),
    "another precision": lambda k, b, m, e: replace(
        k, compute=Compute(torch.device("cpu"), "bf16")
    ).file_of("mlm", [b], m),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_loss_depends_on_is_part_of_its_name(change: str, encoder: Encoder) -> None:
    kept, (batch,), masks = _of(encoder)
    known = kept.file_of("mlm", [batch], masks)
    assert known == kept.file_of("mlm", [batch], masks)
    assert known != CHANGES[change](kept, batch, masks, encoder)


def test_one_bias_or_another_number_of_threads_is_another_loss(encoder: Encoder) -> None:
    kept, batches, masks = _of(encoder)
    known = kept.file_of("mlm", batches, masks)
    bias = next(p for n, p in encoder.base.named_parameters() if n.endswith("LayerNorm.bias"))
    with torch.no_grad():
        bias[0] += 1
        assert _of(encoder)[0].file_of("mlm", batches, masks) != known
        bias[0] -= 1
    assert _of(encoder)[0].file_of("mlm", batches, masks) == known
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert kept.file_of("mlm", batches, masks) != known
    finally:
        torch.set_num_threads(threads)


def test_a_loss_of_ones_own_is_known_by_its_code(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    kept, batches, masks = _of(encoder)
    kept = replace(kept, models=dict.fromkeys(("own", "unseen"), "the model"))
    (tmp_path / "own_loss.py").write_text("def loss(outputs, batch):\n    return 1\n")
    facts: dict[str, Any] = {"label": "own", "unit": "u", "short_unit": "u", "axis": "own"}
    with TERMS.holding(Term(name="own", code="own_loss", **facts)):
        before = kept.file_of("own", batches, masks)
        (tmp_path / "own_loss.py").write_text("def loss(outputs, batch):\n    return 2\n")
        assert before != kept.file_of("own", batches, masks)
    namespace: dict[str, Any] = {}
    exec("def loss(outputs, batch):\n    return 1\n", namespace)  # as in a notebook
    code = type("Code", (), {"loss": staticmethod(namespace["loss"])})
    with TERMS.holding(Term(name="unseen", code=code, **facts)):
        assert kept.file_of("unseen", batches, masks) is None  # it is measured each time


def test_what_is_kept_is_plain(tiny_model: Path, text_file: Path) -> None:
    opened(tiny_model, text_file).losses(None)
    for file in kept_losses():
        (loss,) = json.loads(file.read_text()).values()
        assert loss.keys() == {"sums", "counts"}
        assert len(loss["sums"]) == len(loss["counts"]) == 8
