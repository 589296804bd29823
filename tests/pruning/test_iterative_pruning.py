from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import Run
from masks import magnitude_masks
from torch import Tensor

from tamtctl.data.corpus import load_corpus
from tamtctl.data.sequences import Blocks
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.masks import keep_count
from tamtctl.models.encoder import Encoder
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import can_follow, search
from tamtctl.pruning.searching.initial_mask import initial_start
from tamtctl.pruning.sparsities import cut_sparsities, imp_steps
from tamtctl.pruning.trained.iterative_pruning import IterativePruning
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


def config(model: Path, text: Path, /, **changes: Any) -> SearchConfig:
    small: dict[str, Any] = {
        "sparsity": 0.5,
        "method": "imp",
        "model": str(model),
        "corpus": (str(text),),
        "prune_every": 3,
        "batch_size": 4,
        "sequence_length": 16,
        "learning_rate": 5e-2,
        "evaluation_blocks": 8,
        "device": "cpu",
    }
    return SearchConfig.from_recipe("nano", **(small | changes))


def pruning(
    wanted: SearchConfig, kind: type[IterativePruning] = IterativePruning
) -> tuple[IterativePruning, Encoder]:
    encoder = load_encoder(wanted.model, with_head=True)
    corpus = load_corpus(wanted.corpus, encoder.tokenizer)
    blocks = Blocks.of(corpus.train, wanted.sequence_length, encoder.tokenizer)
    compute = Compute.choose("cpu", "fp32", 1)
    start = initial_start(wanted, encoder, blocks, None)
    return kind(wanted, compute, encoder, blocks, start), encoder


def _values(parameters: Iterable[Tensor]) -> dict[int, Tensor]:
    return {id(parameter): parameter.detach().clone() for parameter in parameters}


def test_cuts_take_a_tenth_and_the_last_one_the_rest() -> None:
    assert cut_sparsities(0.3) == (0.1, 0.2, 0.3)
    assert cut_sparsities(0.45) == (0.1, 0.2, 0.3, 0.4, 0.45)
    assert cut_sparsities(0.9)[-3:] == (0.7, 0.8, 0.9)
    assert cut_sparsities(0.05) == (0.05,)
    assert [imp_steps(s, 2792) for s in (0.1, 0.2, 0.7, 0.9)] == [0, 2792, 6 * 2792, 8 * 2792]


@pytest.mark.parametrize("family", ["bert", "modernbert", "xlm-roberta"])
@pytest.mark.parametrize("rewind", ["weights", "none"])
def test_rewinding_restores_the_pretrained_bits_and_none_does_not(
    rewind: str, family: str, text_file: Path, tmp_path: Path
) -> None:
    wanted = config(tiny.save(tmp_path / family, family), text_file, rewind=rewind)
    seen: list[tuple[dict[int, Tensor], dict[int, Tensor]]] = []  # weights before and after a cut

    class Watched(IterativePruning):
        def _cut(self, keep: Mapping[str, int]) -> None:
            before, masks = _values(self._weights), dict(self.masks)
            super()._cut(keep)
            sparsity = cut_sparsities(wanted.settled_sparsity)[len(seen)]
            seen.append((before, _values(self._weights)))
            assert self._optimizer.state_dict().keys() == {"step"}  # the moments are gone
            for name, mask in self.masks.items():
                assert int(mask.sum()) == keep_count(mask.numel(), sparsity)
                assert not (mask & ~masks[name]).any()  # pruned stays pruned

    imp, encoder = pruning(wanted, Watched)
    pretrained = dict(load_encoder(wanted.model, with_head=True).model.named_parameters())
    names = {id(p): name for name, p in encoder.model.named_parameters()}
    matrices = {names[id(p)] for p in imp.parameters.values()}
    imp.run(lambda _: None)
    assert len(seen) == 5
    for before, after in seen[1:]:
        for at, name in names.items():
            if name not in pretrained:  # a decoder that was tied to the embeddings
                continue
            survives = after[at] != 0 if name in matrices else torch.ones_like(after[at]).bool()
            trained, kept = before[at][survives], after[at][survives]
            if rewind == "weights":
                assert torch.equal(kept, pretrained[name][survives])
            else:
                assert torch.equal(kept, trained)
        moved = [n for at, n in names.items() if not torch.equal(before[at], seen[0][1][at])]
        assert matrices < set(moved)  # everything was trained, the head, too
    for name, parameter in imp.parameters.items():  # in the end only the masks are left
        assert torch.equal(parameter, imp.frozen[name] * imp.masks[name])
    for at, name in names.items():
        if name in pretrained and name not in matrices:
            assert torch.equal(_values(imp._weights)[at], pretrained[name])


def test_the_first_cut_is_by_the_pretrained_magnitude(tiny_model: Path, text_file: Path) -> None:
    imp, _ = pruning(config(tiny_model, text_file, sparsity=0.1))
    expected = magnitude_masks(imp.frozen, 0.1)
    assert all(torch.equal(imp.masks[name], mask) for name, mask in expected.items())


def test_a_search_leaves_a_ticket_like_any_other(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    options = "search --method imp --prune-every 3 --batch-size 4 --sequence-length 16 --json"
    words = [*options.split(), "--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    tickets = {}
    for rewind in ("weights", "none"):
        done = run(*words, "--sparsity", 0.45, "--learning-rate", 0.05, "--rewind", rewind)
        assert done.code == 0, done.err
        result = json.loads(done.out)
        assert (result["method"], result["steps"]) == ("imp", 12)
        losses = result["losses"]
        assert len({losses[name] for name in ("dense", "random", "magnitude", "ticket")}) == 4
        ticket = tickets[rewind] = Ticket.load(result["ticket"])
        assert ticket.mlm_head is None
        for entry in ticket.parameters.values():
            assert entry.kept == keep_count(entry.numel, 0.45)
    one, other = tickets.values()
    assert not all(torch.equal(one.mask(name), other.mask(name)) for name in one.parameters)
    # The losses are those of the pre-trained weights: any other evaluation finds the same.
    found = run(
        *("evaluate", result["ticket"], "--task", "mlm", "--corpus", text_file),
        *("--json", "--device", "cpu"),
    )
    assert json.loads(found.out)["score"] == pytest.approx(losses["ticket"], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 100}, "give its --prune-every"),
        ({"objective": "kd"}, "trains on mlm"),
        ({"prune_every": 0}, "--prune-every must be at least 1"),
        ({"rewind": "weigths"}, "did you mean weights"),
        ({"max_minutes": 3.0}, "before its last cut"),
        ({"init": "random"}, "starts from the full model"),
        ({"method": "tamt", "prune_every": 3}, "are for --method imp"),
        ({"method": "magnitude", "rewind": "none"}, "are for --method imp"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    told: dict[str, Any] = {"sparsity": 0.5, "method": "imp"} | changes
    with pytest.raises(UsageError, match=message):
        SearchConfig.from_recipe("nano", **told)


def test_going_on_from_a_lower_sparsity_gives_the_same_bits(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    low, high = (config(tiny_model, text_file, sparsity=s, dropout=True) for s in (0.4, 0.65))
    assert can_follow(high, low)
    assert not can_follow(replace(high, seed=2), low)
    assert not can_follow(replace(high, rewind="none"), replace(low, rewind="none"))
    assert not can_follow(low, high)
    odd = config(tiny_model, text_file, sparsity=0.45, dropout=True)
    assert not can_follow(high, odd)  # which stopped where a run to 0.65 never is
    first = search(low, output_dir=tmp_path / "low")
    whole = search(high, output_dir=tmp_path / "whole")
    onward = search(high, output_dir=tmp_path / "onward", after=first)
    assert (onward.steps, onward.resumed_from, first.steps) == (18, 9, 9)
    assert onward.losses == whole.losses
    one, other = Ticket.load(whole.ticket), Ticket.load(onward.ticket)
    assert all(torch.equal(one.mask(name), other.mask(name)) for name in one.parameters)
