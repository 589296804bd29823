"""The shelf of criteria: every row keeps its promises, and every command knows one row more."""

from __future__ import annotations

import importlib
import json
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from small_search import RECIPE
from torch import Tensor, nn

from tamtctl.foundations.errors import UsageError
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import CRITERIA, Criterion, baselines
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.methods import methods, sweep_methods
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks, reference_masks
from tamtctl.pruning.searching.identity import search_identity
from tamtctl.ticket.ticket import Ticket


class Smallest:
    """Keeps the smallest weights: of all masks the one that is easiest to tell from others."""

    def scores(self, context: Context) -> Mapping[str, Tensor]:
        assert context.encoder is None
        assert context.batches is None
        return {name: -weight.abs() for name, weight in context.weights.items()}


class Inputs:
    """|w| times the norm of its inputs, of the linear layers alone; seeds choose the batches."""

    def scores(self, context: Context) -> Mapping[str, Tensor]:
        assert context.encoder is not None
        assert context.batches is not None
        names = {id(parameter): name for name, parameter in context.encoder.matrices.items()}
        norms: dict[str, Tensor] = {}

        def see(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            norms[name] = norms.get(name, 0) + inputs[0].detach().flatten(0, -2).square().sum(0)

        hooks = [
            module.register_forward_hook(partial(see, names[id(module.weight)]))
            for module in context.encoder.base.modules()
            if isinstance(module, nn.Linear) and id(module.weight) in names
        ]
        batches = context.batches()
        for _ in range(2):
            context.encoder.base(input_ids=next(batches).input_ids)
        for hook in hooks:
            hook.remove()
        return {name: context.weights[name].abs() * n.sqrt() for name, n in norms.items()}


class Gradients:
    """|w · dL/dw| of masked language modelling: takes a head, noise and a backward pass."""

    def scores(self, context: Context) -> Mapping[str, Tensor]:
        assert context.encoder is not None
        assert context.batches is not None
        assert not context.encoder.model.training
        batch = next(context.batches())
        assert len(batch.masked)
        logits = context.encoder.model(input_ids=batch.input_ids).logits.flatten(0, 1)
        nn.functional.cross_entropy(logits[batch.masked], batch.labels).backward()
        return {
            name: (p.detach() * p.grad).abs()
            for name, p in context.encoder.matrices.items()
            if p.grad is not None
        }


SMALLEST = Criterion(name="smallest", code=Smallest(), label="the smallest")
INPUTS = Criterion(name="inputs", code=Inputs(), needs_text=True, has_seeds=True)
GRADIENTS = Criterion(
    name="gradients", code=Gradients(), needs_text=True, needs_head=True, needs_noise=True
)


@pytest.mark.parametrize("row", CRITERIA.values(), ids=lambda row: row.name)
def test_every_row_says_where_it_comes_from(row: Criterion) -> None:
    text = importlib.import_module(str(row.code)).__doc__ or ""
    text = re.sub(r"(?<=[^\n])\n(?=[^\n])", " ", text)
    assert re.search(r"\(.+ et al\., \d{4}", text), "the source"
    assert "\n\nRelations: " in text


OF_WEIGHTS = [row for row in CRITERIA.values() if not row.needs_text]


@pytest.mark.parametrize("row", [*OF_WEIGHTS, SMALLEST], ids=lambda row: row.name)
def test_every_row_keeps_its_promises(row: Criterion) -> None:
    model = tiny.build("bert")
    weights = {name: p.detach() for name, p in maskable_matrices(model).items()}
    before = {name: weight.clone() for name, weight in weights.items()}
    with CRITERIA.holding(row) if row.name not in CRITERIA else pytest.MonkeyPatch.context():
        for sparsity in (0.0, 0.5, 0.93):
            keep = keep_counts(weights, sparsity)
            masks = one_shot_masks(row.name, Context(weights=weights, seed=1), keep)
            assert {name: int(mask.sum()) for name, mask in masks.items()} == keep
            again = one_shot_masks(row.name, Context(weights=weights, seed=1), keep)
            other = one_shot_masks(row.name, Context(weights=weights, seed=2), keep)
            assert all(torch.equal(masks[name], again[name]) for name in masks)
            differs = any(not torch.equal(masks[name], other[name]) for name in masks)
            assert differs == (row.has_seeds and sparsity > 0)
        # A matrix has the same mask whatever stands beside it.
        (name, weight), *_ = weights.items()
        alone = one_shot_masks(
            row.name, Context(weights={name: weight}, seed=1), {name: keep[name]}
        )
        assert torch.equal(alone[name], masks[name])
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())
    assert len(row.seeds()) >= row.least_seeds
    assert row.seeds((4, 5, 6)) == ((4, 5, 6) if row.has_seeds else (None,))


def test_what_cannot_be_ranked_is_refused() -> None:
    weights = {"a": torch.ones(2, 3), "b": torch.tensor([[3.0, -1.0], [2.0, 0.0]])}

    def masks(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        class Code:
            def scores(self, context: Context) -> Mapping[str, Tensor]:
                return scores

        with CRITERIA.holding(Criterion(name="odd", code=Code())):
            return one_shot_masks("odd", Context(weights=weights), keep_counts(weights, 0.5))

    with pytest.raises(UsageError, match="criterion 'odd' gives scores of a that are no numbers"):
        masks({"a": torch.full((2, 3), torch.nan)})
    with pytest.raises(UsageError, match="criterion 'odd' gives scores of a that are infinite"):
        masks({"a": torch.full((2, 3), torch.inf)})
    with pytest.raises(
        UsageError, match=r"scores of a of shape \[3\], for a matrix of shape \[2, 3\]"
    ):
        masks({"a": torch.ones(3)})
    with pytest.raises(UsageError, match="criterion 'odd' scores 'c', which is no matrix"):
        masks({"c": torch.ones(3)})
    with pytest.raises(UsageError, match="scores of a that are no dense tensor of real numbers"):
        masks({"a": np.ones((2, 3))})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="scores of a that are no dense tensor of real numbers"):
        masks({"a": torch.ones(2, 3, device="meta")})
    with pytest.raises(UsageError, match="criterion 'odd' gives no mapping of name"):
        masks([])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="criterion 'odd' gives no scores of any matrix"):
        masks({})
    order = torch.tensor([[3.0, 1.0], [2.0, 0.0]])
    assert all(
        torch.equal(masks({"b": order.to(dtype)})["b"], order > 1.5)
        for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int64)
    )
    # What is left out keeps the mask of the reference, and among equals the larger weight is kept.
    found = masks({"b": torch.ones(2, 2)})
    assert torch.equal(found["a"], reference_masks(weights, {"a": 3})["a"])
    assert found["b"].tolist() == [[True, False], [True, False]]


WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "torch": Tensor.abs_,
    "data": lambda weight: weight.data.abs_(),
    "numpy": lambda weight: torch.from_numpy(np.abs(weight.numpy(), out=weight.numpy())),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_criterion_that_writes_to_the_weights_is_refused(how: str) -> None:
    """The dense model would have another loss, and the ticket would fit no model."""

    class Code:
        def scores(self, context: Context) -> Mapping[str, Tensor]:
            return {name: WRITES[how](weight) for name, weight in context.weights.items()}

    weights = {"a": -torch.ones(2, 3)}
    with (
        CRITERIA.holding(Criterion(name="odd", code=Code())),
        pytest.raises(UsageError, match="criterion 'odd' writes to the model's weights"),
    ):
        one_shot_masks("odd", Context(weights=weights), {"a": 3})


LEFT: dict[str, Callable[[torch.nn.Module], object]] = {
    "whether torch takes gradients": lambda model: torch.set_grad_enabled(False),
    "the hooks of the model": lambda model: model.register_forward_hook(lambda *given: None),
    "the mode of the model": lambda model: model.train(not model.training),
}


@pytest.mark.parametrize("what", LEFT)
def test_a_criterion_that_leaves_something_changed_is_refused(what: str) -> None:
    """The training after it would go another way, or fail without naming it."""

    class Code:
        def scores(self, context: Context) -> Mapping[str, Tensor]:
            assert context.encoder is not None
            LEFT[what](context.encoder.model)
            return {name: weight.abs() for name, weight in context.weights.items()}

    model = tiny.build("bert")
    encoder = Encoder("tiny", None, model, tiny.tokenizer(), maskable_matrices(model), {})
    weights = {name: p.detach() for name, p in encoder.matrices.items()}
    with (
        torch.enable_grad(),  # puts back what is left of it
        CRITERIA.holding(Criterion(name="odd", code=Code(), needs_text=True)),
        pytest.raises(UsageError, match=f"criterion 'odd' leaves {what} changed; it must undo"),
    ):
        one_shot_masks("odd", Context(weights=weights, encoder=encoder), dict.fromkeys(weights, 1))


def test_a_fault_of_foreign_code_is_not_called_ours() -> None:
    class Code:
        def scores(self, context: Context) -> Mapping[str, Tensor]:
            raise ZeroDivisionError("division by zero")

    with (
        CRITERIA.holding(Criterion(name="odd", code=Code())),
        pytest.raises(UsageError, match="scores of 'odd' failed: ZeroDivisionError: division by"),
    ):
        one_shot_masks("odd", Context(weights={"a": torch.ones(2, 3)}), {"a": 3})
    assert not any(row.is_foreign for row in CRITERIA.values())


def test_a_criterion_needs_what_its_statistics_need() -> None:
    inputs = Criterion(name="odd", code="x", statistics=("input-norms",))
    assert (inputs.needs_text, inputs.needs_head, inputs.needs_noise) == (True, False, False)
    gradients = Criterion(name="odd", code="x", statistics=("input-norms", "gradient-sums"))
    assert (gradients.needs_text, gradients.needs_head, gradients.needs_noise) == (True,) * 3


def test_facts_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UsageError, match="the statistics of criterion 'odd' are no tuple"):
        Criterion(name="odd", code="x", statistics="fisher")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is no statistic 'norms', only input-norms"):
        Criterion(name="odd", code="x", statistics=("norms",))
    with pytest.raises(UsageError, match="within a matrix or a row, not within 'column'"):
        Criterion(name="odd", code="x", group="column")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs a head or noise, and so it needs_text"):
        Criterion(name="odd", code="x", needs_head=True)
    with pytest.raises(UsageError, match="needs text, and so it cannot be a baseline"):
        Criterion(name="odd", code="x", needs_text=True, is_baseline=True)
    for name in ("tamt", "tamt-kd", "imp", "dense", "ticket"):
        with pytest.raises(UsageError, match=f"cannot be called '{name}', a reserved name"):
            CRITERIA.register(Criterion(name=name, code="x"))


def test_methods_are_what_they_were() -> None:
    assert methods()[:4] == ("tamt", "imp", "magnitude", "random")
    assert [row.name for row in baselines()] == ["magnitude", "random"]
    labels = {name: method.label for name, method in sweep_methods().items()}
    assert labels.items() >= {
        "tamt-mlm": "TAMT-MLM", "tamt-kd": "TAMT-KD", "tamt-mlm+kd": "TAMT-MLM+KD", "imp": "IMP",
        "magnitude": "magnitude", "random": "random",
    }.items()  # fmt: skip


def kept_of(run: Path) -> dict[str, Tensor]:
    ticket = Ticket.load(run / "ticket")
    return {name: ticket.mask(name) for name in ticket.parameters}


def test_a_row_that_looks_at_weights_alone(
    tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    """It is searched for, started from, and made on the spot, each time the same mask."""
    Path("tiny.toml").write_text(RECIPE)
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu", "--recipe", "tiny.toml"]
    weights = load_encoder(str(tiny_model), with_head=False).weights
    with CRITERIA.holding(SMALLEST):
        found = run(*"search --sparsity 0.7 --method smallest --output-dir s --json".split(), *at)
        assert found.code == 0, found.err
        losses = json.loads(found.out)["losses"]
        assert list(losses) == ["dense", "random", "magnitude", "ticket"]
        assert losses["ticket"] != losses["magnitude"]
        masks = kept_of(Path("s"))
        keep = keep_counts(weights, 0.7)
        for name, mask in masks.items():
            assert weights[name].abs()[mask].max() <= weights[name].abs()[~mask].min()
            assert int(mask.sum()) == keep[name]

        trained = run(
            *"search --sparsity 0.7 --init smallest --steps 1 --output-dir t".split(), *at
        )
        assert trained.code == 0, trained.err
        assert "The mask did not change: it is the smallest mask." in trained.out
        assert all(torch.equal(mask, masks[name]) for name, mask in kept_of(Path("t")).items())

        sweep = "compare --sparsity 0.7 --blocks 16 --json --methods".split()
        done = run(*sweep, "magnitude,smallest,random", *at)
        assert done.code == 0, done.err
    compared = json.loads(done.out)
    assert not list(Path("runs").glob("search-*"))  # made on the spot
    rows = {row["name"]: row for row in compared["results"]}
    assert rows["the smallest"]["seed"] is None
    pairs = {(one["a"], one["b"]) for one in compared["differences"]}
    others = ("magnitude", "random")
    assert pairs == {*(("the smallest", other) for other in others), others}
    told = [line for line in compared["sentences"] if "the smallest" in line and " in " in line]
    assert told
    for line in told:
        if claim := re.match(r"(.+) beats (.+) at 0.7 in (MLM|KD) loss by", line):
            of_method = (
                [row[f"{claim[3].lower()}_loss"] for name, row in rows.items() if label in name]
                for label in claim.groups()[:2]
            )  # random masks are of three seeds
            better, worse = map(statistics.fmean, of_method)
            assert better < worse
    folder = Path(compared["folder"])
    assert "| 0.7 | the smallest |" in (folder / "report.md").read_text()
    assert (folder / "figures" / "loss.svg").stat().st_size > 0


@pytest.mark.parametrize("row", [INPUTS, GRADIENTS], ids=lambda row: row.name)
def test_a_row_that_looks_at_text(
    row: Criterion, tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    """It gets the model and batches, and a comparison makes a run for it, a seed each if it has."""
    Path("tiny.toml").write_text(f"word-floor = 0\n{RECIPE}")
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu", "--recipe", "tiny.toml"]
    weights = load_encoder(str(tiny_model), with_head=False).weights
    reference = reference_masks(weights, keep_counts(weights, 0.7))
    with CRITERIA.holding(row):
        sweep = f"compare --sparsity 0.7 --blocks 16 --json --methods magnitude,{row.name}".split()
        done = run(*sweep, "--seeds", "1,2", *at)
        assert done.code == 0, done.err
        again = run(*sweep, "--seeds", "1,2", *at, "--dry-run")
        trained = run(
            *f"search --sparsity 0.7 --init {row.name} --steps 1 --output-dir t".split(), *at
        )
        assert trained.code == 0, trained.err
    assert "0 of " in again.out + again.err
    made = sorted(Path("runs").glob(f"search-*-{row.name}-*"))
    # One that looks at text is also found at the other budget.
    found = [path for path in made if "allocation" not in (path / "config.json").read_text()]
    assert len(found) == (2 if row.has_seeds else 1)
    masks = [kept_of(path) for path in found]
    linear = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(masks[0][linear], reference[linear])
    if row.has_seeds:
        assert not all(torch.equal(masks[0][name], mask) for name, mask in masks[1].items())
    # What the criterion does not reach has the mask of the reference.
    out_of_reach = "embeddings.word_embeddings.weight" if row is INPUTS else None
    if out_of_reach:
        assert torch.equal(masks[0][out_of_reach], reference[out_of_reach])
    rows = [one for one in json.loads(done.out)["results"] if one["method"] == row.name]
    assert [one["seed"] for one in rows] == ([1, 2] if row.has_seeds else [None])
    start = kept_of(Path("t"))
    assert any(all(torch.equal(start[n], mask[n]) for n in start) for mask in masks)


def test_another_version_is_another_mask(tiny_model: Path, text_file: Path) -> None:
    values: dict[str, Any] = {
        "sparsity": 0.5, "model": str(tiny_model), "corpus": (str(text_file),), "steps": 1,
        "sequence_length": 16, "learning_rate": 0.1, "method": "smallest",
    }  # fmt: skip
    with CRITERIA.holding(SMALLEST):
        first = search_identity(SearchConfig(**values))
    with CRITERIA.holding(replace(SMALLEST, version=2)):
        second = search_identity(SearchConfig(**values))
    assert second == first | {"criterion smallest": "version 2"}
