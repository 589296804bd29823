"""Tickets made of tickets, against votes that numpy counts on its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from partial_tickets import partial
from small_search import RECIPE
from small_tickets import rewrite_json
from torch import Tensor

import tamtctl
from tamtctl.foundations.errors import TamtctlError, TicketError, UsageError
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.combining.operations import OPERATIONS
from tamtctl.pruning.combining.votes import Poll, counts_as_in
from tamtctl.pruning.patterns import PATTERNS, UNSTRUCTURED
from tamtctl.ticket.format.metadata import ParameterEntry
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.ticket import Ticket

TABLE = "embeddings.word_embeddings.weight"
Votes = dict[str, NDArray[Any]]


def made(weights: dict[str, Tensor], masks: dict[str, Tensor], **changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "base_model_id": "nano", "revision": None, "model_type": "bert", "target_sparsity": 0.5,
        "method": "random", "objective": None, "search": {}, "metrics": {},
    }  # fmt: skip
    return Ticket.create(weights, masks, **values | changes)


def random_masks(weights: dict[str, Tensor], seed: int, density: float = 0.4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(w.shape, generator=generator) < density for n, w in weights.items()}


def expected(votes: NDArray[Any], weight: NDArray[Any], keep: int) -> NDArray[np.bool_]:
    """Keep by votes, then by magnitude, then by place: sorted whole, by nothing of ours."""
    flat, size = votes.ravel(), np.abs(weight).ravel()
    order = np.lexsort((np.arange(flat.size), -size, -flat))
    mask = np.zeros(flat.size, bool)
    mask[order[:keep]] = True
    return mask.reshape(votes.shape)


# --- votes ---------------------------------------------------------------------------------------


@st.composite
def polls(draw: st.DrawFn) -> tuple[dict[str, Tensor], list[Ticket]]:
    """Weights with many ties in magnitude, and tickets of them."""
    shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=3))
    seed = draw(st.integers(0, 2**20))
    generator = torch.Generator().manual_seed(seed)
    weights = {
        f"layer.{i}.weight": torch.randint(-2, 3, shape, generator=generator).float()
        for i, shape in enumerate(shapes)
    }
    count = draw(st.integers(2, 5))
    density = draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
    tickets = [made(weights, random_masks(weights, seed + i, density)) for i in range(count)]
    return weights, tickets


def votes_in_numpy(tickets: list[Ticket]) -> Votes:
    return {
        name: np.sum([ticket.mask(name).numpy() for ticket in tickets], axis=0, dtype=int)
        for name in tickets[0].parameters
    }


@given(polls(), st.sampled_from([*OPERATIONS]))
@settings(max_examples=25, deadline=None)
def test_operations_are_those_of_sets(
    poll: tuple[dict[str, Tensor], list[Ticket]], operation: str
) -> None:
    weights, tickets = poll
    row, pattern = OPERATIONS[operation], PATTERNS[UNSTRUCTURED]
    found = Poll.of(tickets, weights, row, pattern, None, "first")
    for name in weights:
        masks = np.stack([ticket.mask(name).numpy() for ticket in tickets])
        wanted = {
            "union": masks.any(0),
            "intersection": masks.all(0),
            "majority": 2 * masks.sum(0) > len(tickets),
        }
        assert np.array_equal(found.masks[name].numpy(), wanted[operation])
    assert found.kept == found.kept_by_operation == sum(found.votes.values())


@given(polls(), st.sampled_from([*OPERATIONS]), st.floats(0, 0.999), st.booleans())
@settings(max_examples=25, deadline=None)
def test_counts_are_exact_and_ties_go_by_magnitude(
    poll: tuple[dict[str, Tensor], list[Ticket]], operation: str, sparsity: float, even: bool
) -> None:
    weights, tickets = poll
    allocation = "uniform" if even else "first"
    found = Poll.of(
        tickets, weights, OPERATIONS[operation], PATTERNS[UNSTRUCTURED], sparsity, allocation
    )
    votes = votes_in_numpy(tickets)
    keep = {name: int(mask.sum()) for name, mask in found.masks.items()}
    total = sum(weight.numel() for weight in weights.values())
    if found.shared_out == "uniform":
        assert keep == {n: tamtctl_count(w.numel(), sparsity) for n, w in weights.items()}
    else:
        assert not even
        assert sum(keep.values()) == tamtctl_count(total, sparsity)
    for name, weight in weights.items():
        wanted = expected(votes[name], weight.numpy(), keep[name])
        assert np.array_equal(found.masks[name].numpy(), wanted)


def tamtctl_count(size: int, sparsity: float) -> int:
    return size - int(size * Fraction(repr(float(sparsity))))


@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=6),
    st.floats(0, 0.999),
)
@settings(max_examples=60, deadline=None)
def test_counts_follow_the_first_ticket(sizes: list[tuple[int, float]], sparsity: float) -> None:
    first = {
        str(i): ParameterEntry((size,), round(share * size), "0" * 64)
        for i, (size, share) in enumerate(sizes)
    }
    found = counts_as_in(first, sparsity)
    total, kept = sum(e.numel for e in first.values()), sum(e.kept for e in first.values())
    wanted = tamtctl_count(total, sparsity)
    assert sum(found.values()) == wanted
    for name, entry in first.items():
        assert 0 <= found[name] <= entry.numel
        exact = (
            entry.kept * wanted / max(kept, 1)
            if wanted <= kept
            else entry.numel - (entry.numel - entry.kept) * (total - wanted) / (total - kept)
        )
        assert abs(found[name] - exact) < 1
    if wanted == kept:
        assert found == {name: entry.kept for name, entry in first.items()}


# --- tickets -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three tickets of a tiny model, the first with a head and the second encoded otherwise."""
    encoder = load_encoder(str(tiny_model), with_head=True)
    weights = encoder.weights
    folder = tmp_path_factory.mktemp("three")
    head = {
        name: parameter.detach() + 1
        for name, parameter in encoder.model.named_parameters()
        if name.startswith("cls.") and "decoder.weight" not in name
    }
    paths = []
    for seed, encoding in enumerate(("bits", "delta", "zstd")):
        search = {"seed": seed, "corpus": ["python-docs"], "sequence_length": 16}
        ticket = made(
            weights,
            random_masks(weights, seed),
            base_model_id=str(tiny_model),
            mlm_head=head if seed == 0 else None,
            search=search,
            metrics={"trained_on": [f"{seed}" * 64], "losses": {"ticket": 2.0}},
            method="tamt",
            objective="mlm",
        )
        paths.append(str(folder / f"t{seed}"))
        ticket.encode(encoding, weights).save_pretrained(paths[-1])
    return paths


@pytest.fixture(scope="module")
def weights(tiny_model: Path) -> dict[str, Tensor]:
    return load_encoder(str(tiny_model), with_head=False).weights


def masks_of(folder: str | Path, weights: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    ticket = Ticket.load(folder).decode(weights)
    return {name: ticket.mask(name).numpy() for name in weights}


@pytest.mark.parametrize("encoding", ["bits", "zstd", "delta"])
def test_a_ticket_of_tickets(
    encoding: str, three: list[str], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    found = tamtctl.combine(three, tmp_path / "t", sparsity=0.7, encoding=encoding)
    each = [masks_of(ticket, weights) for ticket in three]
    votes = {name: np.stack([one[name] for one in each]).sum(0) for name in weights}
    masks = masks_of(found.ticket, weights)
    for name, weight in weights.items():
        keep = tamtctl_count(weight.numel(), 0.7)
        kept = found.shared_out == "uniform"
        assert kept or masks[name].sum() > 0
        wanted = expected(votes[name], weight.numpy(), keep if kept else int(masks[name].sum()))
        assert np.array_equal(masks[name], wanted)
    total = sum(weight.numel() for weight in weights.values())
    assert sum(mask.sum() for mask in masks.values()) == found.kept == tamtctl_count(total, 0.7)
    assert tamtctl.inspect_ticket(str(found.ticket)).is_valid


def test_it_says_how_it_was_made_and_claims_no_search(three: list[str], tmp_path: Path) -> None:
    found = tamtctl.combine(three, tmp_path / "t", op="union")
    told = json.loads((found.ticket / "ticket.json").read_text())
    assert (told["method"], told["objective"], told["search"]["operation"]) == (
        "combined", None, "union",
    )  # fmt: skip
    assert told["search"].keys() == {
        "operation", "shared_out", "tickets", "corpus", "held_out", "sequence_length",
    }  # fmt: skip
    assert "losses" not in told["metrics"]
    assert told["metrics"]["trained_on"] == ["0" * 64, "1" * 64, "2" * 64]
    parts = told["search"]["tickets"]
    assert [part["name"] for part in parts] == ["t0", "t1", "t2"]  # and no path of this machine
    assert str(tmp_path) not in json.dumps(told)
    digest = Ticket.load(three[0]).masks_digest.hex()
    assert parts[0] == {
        "name": "t0", "masks_sha256": digest, "method": "tamt", "seed": 0,
        "sparsity": Ticket.load(three[0]).sparsity,
    }  # fmt: skip
    text = card(Ticket.load(found.ticket))
    assert "without a search of its own" in text
    assert digest in text
    assert "on unlabelled text" not in text
    counted = tamtctl.combine(three, tmp_path / "counted", op="union", sparsity=0.6)
    text = card(Ticket.load(counted.ticket))
    assert "by their votes (the most votes, at sparsity 0.6)" in " ".join(text.split())
    assert "`union`)" not in text


def test_the_digest_is_that_of_the_masks_in_any_encoding(
    three: list[str], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    bits = Ticket.load(three[1]).decode(weights)
    bits.save_pretrained(tmp_path / "bits")
    one = tamtctl.combine(three[:2], tmp_path / "one")
    other = tamtctl.combine([three[0], tmp_path / "bits"], tmp_path / "other")
    digests = [
        [part["masks_sha256"] for part in Ticket.load(made.ticket).search["tickets"]]
        for made in (one, other)
    ]
    assert digests[0] == digests[1]


def test_the_head_is_the_first_ones_or_none(three: list[str], tmp_path: Path) -> None:
    first = Ticket.load(three[0]).mlm_head
    assert first
    with_head = Ticket.load(tamtctl.combine(three, tmp_path / "a").ticket).mlm_head
    assert with_head is not None
    assert all(torch.equal(first[name], with_head[name]) for name in first)
    assert Ticket.load(tamtctl.combine(three, tmp_path / "b", head="none").ticket).mlm_head is None
    assert Ticket.load(tamtctl.combine(three[1:], tmp_path / "c").ticket).mlm_head is None


def test_a_matrix_that_nothing_is_kept_of_is_named(
    weights: dict[str, Tensor], tiny_model: Path, tmp_path: Path
) -> None:
    for name, value in (("all", True), ("none", False)):
        masks = {n: torch.full(w.shape, value or n != TABLE) for n, w in weights.items()}
        made(weights, masks, base_model_id=str(tiny_model)).save_pretrained(tmp_path / name)
    both = [tmp_path / "all", tmp_path / "none"]
    assert tamtctl.combine(both, tmp_path / "i", op="intersection").empty == (TABLE,)
    assert tamtctl.combine(both, tmp_path / "u", op="union").empty == ()


# --- what is refused -----------------------------------------------------------------------------


def refusals(tiny_model: Path, three: list[str], folder: Path) -> Iterator[tuple[Any, ...]]:
    other = tiny.save(folder / "other", "bert", seed=3)
    theirs = load_encoder(str(other), with_head=False).weights
    made(theirs, random_masks(theirs, 0), base_model_id="other").save_pretrained(folder / "x")
    yield [three[0], folder / "x"], {}, TicketError, "combine tickets of one model"
    part = partial(tiny_model, "attention", str(folder / "part"))
    yield [three[0], part], {}, TicketError, "combine tickets of the same matrices"
    patterned = folder / "patterned"
    Ticket.load(three[2]).save_pretrained(patterned)
    rewrite_json(patterned, lambda told: told.update(pattern="heads"))
    yield [three[0], patterned], {}, TicketError, "combine tickets of one pattern"
    rewrite_json(patterned, lambda told: told.update(pattern=["no", "name"]))
    yield [three[0], patterned], {}, TicketError, "pattern"
    yield [three[0]], {}, UsageError, "takes two or more tickets, got 1"
    yield [three[0], three[1], f"{three[0]}/."], {}, UsageError, "one and the same ticket"
    yield three, {"op": "majorty"}, UsageError, "did you mean majority"
    yield three, {"sparsity": 1.0}, UsageError, "--sparsity must be at least 0"
    yield three, {"head": "second"}, UsageError, "--head must be one of first, none"
    yield three, {"allocation": "global"}, UsageError, "--allocation must be one of"
    yield three, {"model": other}, TicketError, "give the tickets' own --model"


def test_what_does_not_go_together_is_refused(
    tiny_model: Path, three: list[str], tmp_path: Path
) -> None:
    for tickets, options, kind, message in refusals(tiny_model, three, tmp_path):
        with pytest.raises(kind, match=message) as refused:
            tamtctl.combine(tickets, tmp_path / "new", **options)
        assert isinstance(refused.value, TamtctlError)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "new").exists()


def test_another_ticket_is_not_replaced(three: list[str], tmp_path: Path) -> None:
    tamtctl.combine(three[:2], tmp_path / "both")
    before = (tmp_path / "both" / "mask.safetensors").read_bytes()
    with pytest.raises(TicketError, match="is not empty; give a new or an empty folder"):
        tamtctl.combine(three[1:], tmp_path / "both")
    assert (tmp_path / "both" / "mask.safetensors").read_bytes() == before


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def json_of(run: Run, working_folder: None) -> Callable[..., Any]:
    def json_of(*words: object) -> Any:
        done = run(*words, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    return json_of


def test_its_loss_is_measured_like_any_others(
    three: list[str], text_file: Path, json_of: Callable[..., Any]
) -> None:
    found = json_of("combine", *three, "--op", "union")
    assert found["ticket"].startswith("runs/combine-tiny-bert-union-")
    assert json_of("combine", *three, "--op", "union")["ticket"] == found["ticket"]
    text = ["--corpus", text_file, "--blocks", 8, "--device", "cpu"]
    alone = json_of("evaluate", found["ticket"], "--task", "mlm", *text, "--held-out-tenth")
    compared = json_of("compare", found["ticket"], three[0], *text)
    (row,) = [row for row in compared["results"] if row["ticket"] == found["ticket"]]
    assert row["method"] == "combined"
    assert row["mlm_loss"] == pytest.approx(alone["score"], abs=1e-6)
    assert found["ticket"] in [one["path"] for one in json_of("list")["tickets"]]


def test_it_knows_the_text_that_its_tickets_were_trained_on(
    tiny_model: Path, text_file: Path, json_of: Callable[..., Any]
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    search = ["search", "--model", tiny_model, "--corpus", text_file, "--recipe", "tiny.toml"]
    search += ["--sparsity", 0.5, "--method", "random", "--device", "cpu"]
    tickets = [json_of(*search, "--seed", seed)["ticket"] for seed in (1, 2)]
    found = json_of("combine", *tickets)
    own, parts = (
        json_of("evaluate", ticket, "--task", "mlm", "--corpus", text_file, "--device", "cpu")
        for ticket in (found["ticket"], tickets[0])
    )
    assert "was trained on" in own["text"]
    assert own["text"] == parts["text"]


def test_what_the_screen_says(three: list[str], run: Run, working_folder: None) -> None:
    done = run("combine", *three, "--sparsity", 0.7)
    assert done.code == 0, done.err
    assert "3 of 3" in done.out
    assert "next    tamtctl compare" in done.err
    folder = done.out.splitlines()[-1].split()[1]
    shown = run("inspect", folder).out
    assert "the votes of 3 tickets, at sparsity 0.7, without a search: t0, t1, t2" in shown
    assert run("combine", three[0]).code == 2
