"""Looking into tickets: what is listed, how alike they are, where they keep their weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from masks import magnitude_masks, random_masks
from small_tickets import small_ticket, ticket_of

from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.heat_map import check_figure, save_heat_map
from tamtctl.ticket.inspection import compare_masks, inspect_ticket
from tamtctl.ticket.listing import known_tickets, list_tickets
from tamtctl.ticket.mask_shares import sparsities
from tamtctl.ticket.matrix_places import MatrixPlace, layer_of, place_of, type_of
from tamtctl.ticket.similarity import similarities
from tamtctl.ticket.ticket import Ticket


def test_similarity_by_hand() -> None:
    a = ticket_of({
        "layer.0.a.weight": torch.tensor([1, 1, 0, 0, 0, 0, 0, 0]) > 0,
        "layer.1.a.weight": torch.tensor([1, 1, 1, 1]) > 0,
    })  # fmt: skip
    b = ticket_of({
        "layer.0.a.weight": torch.tensor([1, 0, 1, 1, 0, 0, 0, 0]) > 0,
        "layer.1.a.weight": torch.tensor([1, 1, 0, 0]) > 0,
    })  # fmt: skip
    (found,) = similarities([a, b])
    first, second = found.matrices["layer.0.a.weight"], found.matrices["layer.1.a.weight"]
    assert (first.jaccard, second.jaccard) == (1 / 4, 1 / 2)
    assert (first.hamming, second.hamming) == (5 / 8, 1 / 2)
    assert found.average.jaccard == 3 / 8  # per matrix, not (1 + 2) / (4 + 4)
    assert found.average.hamming == 9 / 16
    assert found.same_base
    both = 2 / 8 * 3 / 8
    assert first.chance_jaccard == pytest.approx(both / (5 / 8 - both))
    assert first.chance_hamming == pytest.approx(both + 6 / 8 * 5 / 8)


def test_chance_is_what_random_masks_have() -> None:
    weights = {"w.weight": torch.zeros(400, 500)}
    a, b = (ticket_of(random_masks(weights, 0.7, seed)) for seed in (1, 2))
    average = similarities([a, b])[0].average
    assert average.chance_jaccard == pytest.approx(0.3 / (2 - 0.3), abs=1e-9)
    assert average.jaccard == pytest.approx(average.chance_jaccard, abs=0.005)
    assert average.hamming == pytest.approx(average.chance_hamming, abs=0.005)


def test_empty_masks_are_alike() -> None:
    nothing = ticket_of({"w.weight": torch.zeros(4) > 0})
    average = similarities([nothing, nothing])[0].average
    assert (average.jaccard, average.hamming) == (1, 1)


def test_different_models() -> None:
    a, b = ticket_of({"a.weight": torch.ones(4) > 0}), ticket_of({"b.weight": torch.ones(4) > 0})
    stranger = replace(b, base_model=replace(b.base_model, id="other"))
    with pytest.raises(TicketError, match="no matrix of the same name"):
        similarities([a, stranger])
    assert [(one.a, one.b) for one in similarities([a, b, a])] == [(0, 2)]  # of one model
    c = ticket_of({"a.weight": torch.ones(4) > 0}, seed=1)
    assert not similarities([a, c])[0].same_base


def test_places() -> None:
    assert place_of("encoder.layer.11.attention.self.query.weight") == MatrixPlace(
        11, "attention.self.query"
    )
    assert place_of("layers.3.Wqkv.weight") == MatrixPlace(3, "Wqkv")
    assert place_of("encoder.albert_layer_groups.0.albert_layers.0.ffn.weight") == MatrixPlace(
        0, "albert_layers.0.ffn"
    )
    assert place_of("embeddings.word_embeddings.weight") == MatrixPlace(
        None, "embeddings.word_embeddings"
    )


def test_layers_and_types() -> None:
    ticket = ticket_of({
        "layer.10.a.weight": torch.tensor([1, 0, 0, 0]) > 0,
        "layer.2.a.weight": torch.tensor([1, 1]) > 0,
        "layer.2.b.weight": torch.tensor([0, 0]) > 0,
        "embeddings.weight": torch.tensor([1, 1, 1, 0]) > 0,
    })  # fmt: skip
    layers = sparsities(ticket, layer_of)
    assert list(layers.items()) == [("-", 0.25), ("2", 0.5), ("10", 0.75)]
    assert sparsities(ticket, type_of) == {"a": 0.5, "b": 1.0, "embeddings": 0.25}


def test_several_tickets(tmp_path: Path) -> None:
    for name, method in (("a", "tamt"), ("b", "magnitude")):
        small_ticket(method=method).save_pretrained(tmp_path / name)
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    found = compare_masks(names).to_dict()
    assert [one["ticket"]["method"] for one in found["tickets"]] == ["tamt", "magnitude"]
    (similar,) = found["similarities"]
    assert (similar["a"], similar["b"]) == tuple(names)
    assert similar["average"]["jaccard"] == 1
    (tmp_path / "b" / "mask.safetensors").unlink()
    with pytest.raises(TicketError, match=r"b': has no mask\.safetensors"):
        compare_masks(names)


def test_delta_tickets_take_their_masks_from_the_base_model(tmp_path: Path) -> None:
    weights = load_encoder("nano", with_head=False).weights
    plain = Ticket.create(
        weights, magnitude_masks(weights, 0.5), base_model_id="nano", revision=None,
        model_type="bert", method="magnitude", target_sparsity=0.5, objective=None, search={},
        metrics={},
    )  # fmt: skip
    plain.save_pretrained(tmp_path / "plain")
    plain.encode("delta", weights).save_pretrained(tmp_path / "delta")
    inspection = inspect_ticket(str(tmp_path / "delta"))
    assert inspection.is_valid
    assert inspection.checks[-1].detail == "not checked: it takes the weights of nano"
    comparison = compare_masks([str(tmp_path / "plain"), str(tmp_path / "delta")])
    assert comparison.similarities[0].average.jaccard == 1


def test_listing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_ticket().save_pretrained("runs/search-x/ticket")
    Path("runs/broken/ticket").mkdir(parents=True)
    Path("runs/broken/ticket/ticket.json").write_text("{")
    small_ticket().save_pretrained("runs/cut/ticket")
    Path("runs/cut/ticket/mask.safetensors").write_bytes(b"x")
    Path("runs/empty/ticket").mkdir(parents=True)
    assert [line.name for line in known_tickets() if "runs" in line.name] == [
        "runs/search-x/ticket"
    ]
    damaged = {one.name: one.problem for one in list_tickets().damaged}
    assert list(damaged) == ["runs/broken/ticket", "runs/cut/ticket", "runs/empty/ticket"]
    assert "ticket.json is damaged" in damaged["runs/broken/ticket"]
    assert "mask.safetensors is damaged: 1 bytes instead of" in damaged["runs/cut/ticket"]
    assert "has no ticket.json" in damaged["runs/empty/ticket"]


# --- the figure ---------------------------------------------------------------------------------


@pytest.mark.renders
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figure(tmp_path: Path, suffix: str) -> None:
    a, b = small_ticket(), small_ticket(method="random")
    file = tmp_path / f"map{suffix}"
    check_figure(file)
    save_heat_map(file, ["a", "b"], [a, b], similarities([a, b]))
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
    if suffix == ".png":
        assert file.read_bytes().startswith(b"\x89PNG")
    else:
        text = file.read_text()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert text.count("<!-- layer -->") == 3  # two tickets and their overlap


def test_figures_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png or \.svg"):
        check_figure(tmp_path / "map.jpg")
    with pytest.raises(UsageError, match="there is no folder"):
        check_figure(tmp_path / "none" / "map.png")
