"""What every word keeps of its embedding, also a word that the text of the search lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_search import small_config
from torch import Tensor

from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import Encoder
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.derived import derived_config
from tamtctl.pruning.one_shot import Ranking, with_word_floor
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.ticket import Ticket

# A search that flips many weights: of a mask that nothing protects, much is lost.
WILD: Mapping[str, Any] = {"init": "obs*fisher", "init_scores": "nats", "learning_rate": 0.5}


@pytest.fixture
def few_words(tmp_path: Path) -> Path:
    """Return a text of eight words."""
    text = tmp_path / "few-words.txt"
    words = "the list of name is in one file".split()
    text.write_text("\n\n".join(" ".join(words[at % 8 :] + words[: at // 8]) for at in range(64)))
    return text


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return load_encoder(str(tiny_model), with_head=False)


def mask_of_words(ticket: Path | str, encoder: Encoder) -> Tensor:
    """Return the mask of the embeddings of words, shape (words, width)."""
    (table,) = encoder.embeddings
    return Ticket.load(Path(ticket)).mask(table)


@pytest.mark.parametrize("allocation", ["uniform", "by-type", "global"])
def test_every_word_keeps_its_share_after_training(
    allocation: str, tiny_model: Path, few_words: Path, tmp_path: Path, encoder: Encoder
) -> None:
    by = {} if allocation == "uniform" else {"budget_criterion": "fisher"}
    config = small_config(tiny_model, few_words, sparsity=0.7, allocation=allocation, **WILD, **by)
    floors = {
        floor: search(replace(config, word_floor=floor), output_dir=tmp_path / str(floor)).ticket
        for floor in (0.0, 0.5, 1.0)
    }
    masks = {floor: mask_of_words(ticket, encoder) for floor, ticket in floors.items()}
    kept = {floor: int(mask.sum()) for floor, mask in masks.items()}
    assert len(set(kept.values())) == 1  # the floor moves weights within the embeddings alone
    assert int((masks[0.0].sum(dim=1) == 0).sum()) > len(masks[0.0]) // 10
    for floor in (0.5, 1.0):
        each = int(floor * kept[floor] / len(masks[floor]))
        assert int(masks[floor].sum(dim=1).min()) >= each
        assert each > 0 or floor == 0.5  # `global` leaves so few that half of the mean is below 1


def test_the_floor_holds_at_other_sparsities(
    tiny_model: Path, few_words: Path, tmp_path: Path, encoder: Encoder
) -> None:
    """The kept scores of a search give each word its share of another sparsity, and no more."""
    config = small_config(
        tiny_model, few_words, sparsity=0.7, word_floor=0.5, keep_scores=True, **WILD
    )
    run = Path(search(config, output_dir=tmp_path / "run").run_folder)
    for sparsity in (0.5, 0.7, 0.8):
        derived = search(derived_config(run, sparsity), output_dir=tmp_path / str(sparsity))
        mask = mask_of_words(derived.ticket, encoder)
        each = int(0.5 * int(mask.sum()) / len(mask))
        counts = mask.sum(dim=1)
        assert int(counts.min()) >= each > 0
        assert int((counts <= each + 1).sum()) > len(mask) // 8  # of words that the text lacks
    same = mask_of_words(tmp_path / "0.7" / "ticket", encoder)
    assert torch.equal(same, mask_of_words(run / "ticket", encoder))


def test_the_floor_is_that_of_sorting_each_word_alone() -> None:
    table = torch.tensor([[9.0, 8, 7, 6], [0.5, 0.1, 0.3, 0.2], [0.0, 0, 0, 0]])
    size = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [0.1, 0.3, 0.2, 0.4]])
    ranking = Ranking({"e": table}, {"e": size}, frozenset(), frozenset({"e"}))
    found = with_word_floor(ranking, {"e": 6}, {"e"}, 0.5).masks({"e": 6})["e"]
    wanted = [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert found.int().tolist() == wanted
    assert with_word_floor(ranking, {"e": 6}, {"e"}, 1.0).masks({"e": 6})["e"].sum(1).tolist() == [
        2, 2, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"word_floor": 1.5}, "--word-floor must be from 0 to 1"),
        ({"method": "magnitude"}, "magnitude does not look at the text"),
        ({"init": "random"}, "random does not look at the text"),
        ({"init": "a-ticket"}, "--init a-ticket is a ticket"),
        ({"init_scores": "two-valued"}, "training may prune any weight"),
        ({"method": "imp"}, "imp ranks by weights that it trains"),
        ({"pattern": "neurons"}, "--pattern neurons leaves the embeddings dense"),
    ],
)
def test_a_search_that_forgets_no_word_takes_no_floor(
    changes: dict[str, Any], message: str
) -> None:
    values: dict[str, Any] = {"sparsity": 0.7, "word_floor": 0.5} | changes
    with pytest.raises(UsageError, match=message):
        SearchConfig.from_recipe("nano", **values)


@pytest.mark.parametrize(
    ("changes", "floor"),
    [
        ({}, 0.75),
        ({"objective": "kd"}, 0.75),
        ({"method": "obs"}, 0.75),
        ({"word_floor": 0}, 0.0),
        ({"method": "magnitude"}, 0.0),
        ({"method": "imp"}, 0.0),
        ({"init": "magnitude"}, 0.0),
        ({"init_scores": "two-valued"}, 0.0),
        ({"pattern": "neurons"}, 0.0),
    ],
)
def test_recipes_have_a_floor_where_words_are_forgotten(
    changes: dict[str, Any], floor: float
) -> None:
    config = SearchConfig.from_recipe("nano", **({"sparsity": 0.7} | changes))
    assert config.word_floor == floor


def test_negative_importances_cannot_be_lifted() -> None:
    one = {"words": torch.tensor([[0.5, -1.0], [0.2, 0.1]])}
    ranking = Ranking(one, {}, frozenset(), frozenset({"words"}))
    with pytest.raises(UsageError, match="weights of words is negative, and --word-floor lifts"):
        with_word_floor(ranking, {"words": 2}, ["words"], 0.5)
