"""Criteria of text against dense formulations: one sequence at a time, with plain loops.

What a layer's inputs are is seen where torch multiplies, and gradients are autograd's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor, nn

from tamtctl.data.batch import Batch
from tamtctl.data.batches import training_batches
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Blocks, Rows
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.selection import keep_largest
from tamtctl.models.encoder import Encoder
from tamtctl.models.loading import load_encoder
from tamtctl.models.timing import threads_as_before
from tamtctl.pruning.criteria import CRITERIA, asked, asked_together, find_criterion
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.criteria.swaps import exchanges
from tamtctl.pruning.statistics import STATISTICS
from tamtctl.pruning.statistics.cached import file_of, read
from tamtctl.pruning.statistics.calibration import Calibration, calibration_batches, rows_at_once
from tamtctl.pruning.statistics.curvatures import curvature
from tamtctl.pruning.statistics.table import Statistic

FP32 = Compute(torch.device("cpu"), "fp32")
# In these, shared layers, inputs without a sequence, and everything else that is odd occurs.
CLOSE = {"rtol": 2e-3, "atol": 1e-12}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Encoder]:
    """Return tiny encoders with their heads; the padding's embedding is none of a token's."""
    found: dict[str, Encoder] = {}

    def encoder(family: str) -> Encoder:
        if family not in found:
            folder = tmp_path_factory.mktemp(family)
            found[family] = load_encoder(str(tiny.save(folder, family)), with_head=True)
            embeddings_of(found[family]).padding_idx = None
        return found[family]

    return encoder


def embeddings_of(encoder: Encoder) -> nn.Embedding:
    embeddings = encoder.base.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    return embeddings


def batches_of(encoder: Encoder, *, padded: bool = False, noise: bool = True) -> list[Batch]:
    """Return three batches of a text of a few rows, the last of them shorter."""
    random = np.random.default_rng(0)
    ids = random.integers(len(tiny.SPECIAL), len(tiny.VOCABULARY) - 20, 400)
    text = Blocks.of(ids, 12, encoder.tokenizer)
    if padded:
        ends = np.cumsum(random.integers(1, 11, 40))
        text = Rows.of(ids, ends, 12, encoder.tokenizer)  # type: ignore[assignment]
    masking = Noise.of(encoder.tokenizer) if noise else None
    return calibration_batches(training_batches(text, 4, 0, noise=masking), 10**6, 10)


def context_of(encoder: Encoder, batches: list[Batch], **more: Any) -> Context:
    return Context(weights=encoder.weights, calibration=Calibration(encoder, batches, FP32), **more)


def sequences(batches: list[Batch]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield of each sequence by itself its ids (1, t), and positions and ids of its targets."""
    for batch in batches:
        length = batch.input_ids.shape[1]
        for row, ids in enumerate(batch.input_ids):
            used = length if batch.attention_mask is None else int(batch.attention_mask[row].sum())
            mine = (batch.masked // length) == row
            yield ids[None, :used], batch.masked[mine] % length, batch.labels[mine]


@contextmanager
def untied(encoder: Encoder) -> Iterator[None]:
    """Give the decoder embeddings of its own, as a mask sees it, and every weight a gradient."""
    decoder: Any = encoder.model.get_output_embeddings()
    tied = decoder.weight
    decoder.weight = nn.Parameter(embeddings_of(encoder).weight.detach().clone())
    for parameter in encoder.model.parameters():
        parameter.requires_grad_(True)
    yield
    decoder.weight = tied


def gradients(encoder: Encoder, loss: Tensor) -> dict[str, Tensor]:
    """Return name → gradient of a loss by every matrix."""
    found = torch.autograd.grad(
        loss, [*encoder.matrices.values()], allow_unused=True, retain_graph=True
    )
    return {n: g for n, g in zip(encoder.matrices, found, strict=True) if g is not None}


def gradients_of_sequences(encoder: Encoder, batches: list[Batch]) -> list[dict[str, Tensor]]:
    """Return of each sequence the gradients of −log p of its masked tokens."""
    found = []
    with untied(encoder):
        for ids, places, labels in sequences(batches):
            logits = encoder.model(input_ids=ids).logits[0, places]
            likelihood = F.log_softmax(logits, -1)[torch.arange(len(labels)), labels].sum()
            found.append(gradients(encoder, -likelihood))
    return found


def inputs_of_sequences(
    encoder: Encoder, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[Tensor]]:
    """Return name → inputs (tokens, in) of a linear layer, of every use and sequence."""
    names = {id(p): name for name, p in encoder.matrices.items()}
    found: dict[str, list[Tensor]] = {}
    multiply = F.linear

    def seen(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if id(weight) in names:
            found.setdefault(names[id(weight)], []).append(values.detach().flatten(0, -2))
        return multiply(values, weight, bias)

    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(F, "linear", seen)
        for ids, _, _ in sequences(batches):
            encoder.base(input_ids=ids)
    return found


def frequencies(encoder: Encoder, batches: list[Batch]) -> tuple[str, Tensor]:
    """Return the name of the embeddings, and the smoothed frequency of each token, (V, 1)."""
    (name,) = (n for n, p in encoder.matrices.items() if p is embeddings_of(encoder).weight)
    counts = torch.zeros(len(encoder.matrices[name]))
    for ids, _, _ in sequences(batches):
        for token in ids.flatten().tolist():
            counts[token] += 1
    return name, (counts + counts.mean() / 100).unsqueeze(1)


def check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare each matrix on its own scale."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        told, scale = f"{name}: {{}}".format, values.max()
        torch.testing.assert_close(
            found[name] / scale, values / scale, rtol=1e-3, atol=1e-5, msg=told
        )


@pytest.mark.parametrize("padded", [False, True], ids=["blocks", "padded"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_criteria_of_inputs(
    family: str, padded: bool, encoders: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoders(family)
    batches = batches_of(encoder, padded=padded)
    context = context_of(encoder, batches)
    inputs = inputs_of_sequences(encoder, batches, monkeypatch)
    table_name, counts = frequencies(encoder, batches)
    weights = encoder.weights
    wanda = {table_name: weights[table_name].abs() * counts.sqrt()}
    ria = {}
    obs = {table_name: weights[table_name].square() * counts}
    for name, uses in inputs.items():
        x = torch.cat(uses)  # (tokens, in)
        wanda[name] = weights[name].abs() * x.norm(dim=0)
        gram = (x.T @ x).double()
        gram += 0.01 * gram.diagonal().mean() * torch.eye(len(gram))
        obs[name] = (weights[name].square() / torch.linalg.inv(gram).diagonal()).float()
    for name, weight in weights.items():
        norm = counts.sqrt() if name == table_name else torch.cat(inputs[name]).norm(dim=0)
        sizes = weight.abs()
        share = torch.empty_like(weight)
        for i in range(len(weight)):
            for j in range(weight.shape[1]):
                share[i, j] = sizes[i, j] / sizes[i].sum() + sizes[i, j] / sizes[:, j].sum()
        ria[name] = share * norm.sqrt()
    check(CRITERIA["wanda"].scores(context), {name: wanda[name] for name in weights})
    check(CRITERIA["obs"].scores(context), {name: obs[name] for name in weights})
    if not padded:
        check(CRITERIA["ria"].scores(context), ria)


@pytest.mark.parametrize("padded", [False, True], ids=["blocks", "padded"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_criteria_of_gradients(
    family: str, padded: bool, encoders: Callable[[str], Encoder]
) -> None:
    encoder = encoders(family)
    batches = batches_of(encoder, padded=padded)
    context = context_of(encoder, batches)
    weights, found = encoder.weights, gradients_of_sequences(encoder, batches)
    names = found[0].keys()
    fisher = {n: weights[n].square() * sum(g[n].square() for g in found) for n in names}
    total = {n: torch.stack([g[n] for g in found]).sum(0) for n in names}
    check(CRITERIA["fisher"].scores(context), fisher)
    check(CRITERIA["snip"].scores(context), {n: (weights[n] * total[n]).abs() for n in names})
    # All ten sequences are one minibatch.
    check(CRITERIA["taylor"].scores(context), {n: (weights[n] * total[n]).square() for n in names})


def test_minibatches_are_of_sixteen_sequences(encoders: Callable[[str], Encoder]) -> None:
    encoder = encoders("bert")
    batches = batches_of(encoder) * 4  # 40 sequences: 16, 16 and 8, however they go through
    batches = [row for batch in batches for row in batch.split(1)]
    statistic = Calibration(encoder, batches, FP32)["squared-batch-gradients"]
    found = gradients_of_sequences(encoder, batches)
    for name, values in statistic.items():
        parts = [torch.stack([g[name] for g in found[i : i + 16]]).sum(0) for i in (0, 16, 32)]
        expected = sum(part.square() for part in parts)
        torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5 * float(values.max()))


@pytest.mark.parametrize(
    ("family", "padded"), [("bert", False), ("albert", True), ("deberta-v2", True)]
)
def test_fisher_of_hidden_states(
    family: str, padded: bool, encoders: Callable[[str], Encoder]
) -> None:
    """On average over the signs it is the sum of the squared derivatives of all directions."""
    encoder = encoders(family)
    (few, *_) = batches_of(encoder, padded=padded, noise=False)
    few = few.split(2)[0]
    repeated = [few] * 60
    statistic = Calibration(encoder, repeated, FP32)["squared-state-gradients"]
    exact: dict[str, Tensor] = {}
    with untied(encoder):
        for ids, _, _ in sequences([few]):
            states = encoder.base(input_ids=ids, output_hidden_states=True).hidden_states[1:]
            for state in states:
                for vector in state[0]:
                    for coordinate in vector / vector.square().sum().sqrt():
                        for name, gradient in gradients(encoder, coordinate).items():
                            exact[name] = exact.get(name, 0) + gradient.square()
    assert statistic.keys() == exact.keys()
    for name, values in statistic.items():
        mean = values / len(repeated)
        assert float(mean.sum() / exact[name].sum()) == pytest.approx(1, abs=0.15), name
        paired = torch.stack([mean.flatten(), exact[name].flatten()])
        assert float(torch.corrcoef(paired)[0, 1]) > 0.93, name


def test_one_pass_gathers_everything_and_one_input_is_held_once(
    encoders: Callable[[str], Encoder],
) -> None:
    encoder = encoders("bert")
    batches = batches_of(encoder)
    passes = []
    hook = encoder.base.register_forward_hook(lambda *_: passes.append(1))
    calibration = Calibration(encoder, batches, FP32)
    calibration.gather(STATISTICS)
    assert len(passes) == 2 + len(batches)  # two to see where layers are used, and the text
    grams = calibration["gram-matrices"]
    layer = "encoder.layer.0.attention.self."
    query, key, value = (grams[f"{layer}{name}.weight"] for name in ("query", "key", "value"))
    assert query is key is value
    assert grams["encoder.layer.0.attention.output.dense.weight"] is not query
    # A second one finds them all, and no pass is made.
    before = len(passes)
    again = Calibration(encoder, batches, FP32)
    for name in STATISTICS:
        assert all(torch.equal(again[name][n], v) for n, v in calibration[name].items())
    assert len(passes) == before
    # What they follow from is another file: text, order, noise, precision, and the version.
    other = [*batches[1:], batches[0]]
    bf16 = Compute(torch.device("cpu"), "bf16")
    for changed in (Calibration(encoder, other, FP32), Calibration(encoder, batches, bf16)):
        before = len(passes)
        changed.gather(["input-norms"])
        assert len(passes) > before
    hook.remove()


def test_what_another_criterion_will_ask_for_is_gathered_along(
    encoders: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path))
    encoder = encoders("bert")
    batches, passes = batches_of(encoder), []
    hook = encoder.base.register_forward_hook(lambda *_: passes.append(1))
    Calibration(encoder, batches, FP32, ["curvatures"]).gather(["input-norms"])
    assert len(passes) == 2 + len(batches)
    Calibration(encoder, batches, FP32, ["gram-matrices"]).gather(["curvatures"])
    assert len(passes) == 2 + len(batches)  # what is there is no reason for a pass
    hook.remove()
    assert asked() == ()
    with asked_together(["obs", "wanda*fisher"]):
        assert [row.name for row in asked()] == ["obs", "wanda*fisher"]
    assert asked() == ()


def test_a_changed_weight_or_a_damaged_file_is_gathered_anew(
    encoders: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path))
    encoder = encoders("bert")
    batches = batches_of(encoder)
    first = Calibration(encoder, batches, FP32)["input-norms"]
    (file,) = (tmp_path / "statistics").glob("*.safetensors")
    content = file.read_bytes()
    for damaged in (b"", content[:-3], content[:-1] + bytes([content[-1] ^ 1]), b"{}" * 20):
        file.write_bytes(damaged)
        found = Calibration(encoder, batches, FP32)["input-norms"]
        assert all(torch.equal(found[name], values) for name, values in first.items())
        assert read(file) is not None  # made anew
    with torch.no_grad():
        embeddings = embeddings_of(encoder).weight
        row = embeddings[20].clone()
        embeddings[20] += 1
        changed = Calibration(encoder, batches, FP32)["input-norms"]
        embeddings[20] = row
    assert any(not torch.equal(changed[name], values) for name, values in first.items())
    # Where nothing can be written, all is as without a cache.
    monkeypatch.setenv("TAMTCTL_CACHE", str(file))
    found = Calibration(encoder, batches, FP32)["input-norms"]
    assert all(torch.equal(found[name], values) for name, values in first.items())


def test_what_changes_the_bits_of_a_statistic_changes_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path))
    code = tmp_path / "code.py"
    code.write_text("def gatherer(shapes, device): ...\n")
    space: dict[str, Any] = {}
    exec(compile(code.read_text(), str(code), "exec"), space)
    row = Statistic(name="own", code=SimpleNamespace(**space))
    files = [file_of(row, "model", ["w"], "text", FP32)]
    with threads_as_before():
        torch.set_num_threads(torch.get_num_threads() + 1)
        files.append(file_of(row, "model", ["w"], "text", FP32))
    code.write_text(code.read_text() + "# changed\n")
    files.append(file_of(row, "model", ["w"], "text", FP32))
    assert None not in files
    assert len(set(files)) == 3
    code.unlink()
    assert file_of(row, "model", ["w"], "text", FP32) is None


def test_gram_matrices_that_do_not_fit_take_more_passes(
    encoders: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoder = encoders("albert")
    batches = batches_of(encoder)
    names = ["curvatures", "squared-gradients"]
    whole = Calibration(encoder, batches, FP32)
    whole.gather(names)
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path))
    monkeypatch.setattr("tamtctl.pruning.statistics.calibration.LEAST_BYTES", 1)
    monkeypatch.setattr("tamtctl.pruning.statistics.calibration.BYTES_PER_WEIGHT", 0)
    passes = []
    hook = encoder.base.register_forward_hook(lambda *_: passes.append(1))
    parts = Calibration(encoder, batches, FP32)
    parts.gather(names)
    hook.remove()
    assert len(passes) > 1 + 2 * len(batches)
    for name in names:
        assert whole[name].keys() == parts[name].keys()
        for matrix, values in whole[name].items():
            torch.testing.assert_close(parts[name][matrix], values)


def test_a_layer_whose_inputs_are_zero_counts_nothing() -> None:
    assert torch.equal(curvature(torch.zeros(3, 3)), torch.zeros(1, 3))
    # Of a damped matrix, an input that is always 0 counts the least.
    assert curvature(torch.diag(torch.tensor([4.0, 0.0, 1.0]))).argmin() == 1


def greedy(weight: Tensor, gram: Tensor, mask: Tensor) -> Tensor:
    """Return the mask after exchanges, by the error of every candidate as it is defined."""
    weight, gram, mask = weight.double(), gram.double(), mask.clone()

    def error(row: Tensor, kept: Tensor) -> float:
        lost = row * ~kept
        return float(lost @ gram @ lost)

    for row, kept in zip(weight, mask, strict=True):
        while True:
            now = error(row, kept)
            tried = {}
            for i in (~kept).nonzero().flatten().tolist():
                kept[i] = True
                tried[i] = error(row, kept)
                kept[i] = False
            best_i = min(tried, key=lambda i: tried[i])
            others = kept.nonzero().flatten().tolist()
            kept[best_i] = True
            tried = {}
            for j in others:
                kept[j] = False
                tried[j] = error(row, kept)
                kept[j] = True
            best_j = min(tried, key=lambda j: tried[j])
            if tried[best_j] >= now * (1 - 1e-6):
                kept[best_i] = False
                break
            kept[best_j] = False
    return mask


def test_exchanges_lower_the_error_of_a_layer() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(60, 12) @ torch.randn(12, 12)  # that stand in for each other
    weight, gram = torch.randn(8, 12), inputs.T @ inputs
    wanda = weight.abs() * inputs.norm(dim=0)
    start = keep_largest(wanda, 40)
    found = exchanges(weight, gram, start)
    assert torch.equal(found, greedy(weight, gram, start))
    assert torch.equal(found.sum(1), start.sum(1))
    before, after = (((weight * ~mask) @ inputs.T).square().sum() for mask in (start, found))
    assert after < 0.9 * before


def test_swaps_rank_their_mask_first(encoders: Callable[[str], Encoder]) -> None:
    encoder = encoders("bert")
    keep = {name: int(0.3 * w.numel()) for name, w in encoder.weights.items()}
    context = context_of(encoder, batches_of(encoder), keep=keep)
    scores, wanda = CRITERIA["swaps"].scores(context), CRITERIA["wanda"].scores(context)
    grams = Calibration(encoder, batches_of(encoder), FP32)["gram-matrices"]
    changed = 0
    for name, weight in encoder.weights.items():
        assert bool((scores[name] >= 0).all() and scores[name].isfinite().all())
        start = keep_largest(wanda[name], keep[name], weight.abs())
        mask = keep_largest(scores[name], keep[name], weight.abs())
        if grams[name].shape[1] == 1:
            assert torch.equal(mask, start)
        else:
            assert torch.equal(mask, exchanges(weight, grams[name], start))
        changed += int((mask != start).sum())
    assert changed > 0


def test_a_combined_order_adds_standardised_logarithms(encoders: Callable[[str], Encoder]) -> None:
    encoder = encoders("bert")
    context = context_of(encoder, batches_of(encoder))
    found = find_criterion("obs*fisher*magnitude").scores(context)
    parts = [CRITERIA[name].scores(context) for name in ("obs", "fisher", "magnitude")]
    assert found.keys() == encoder.matrices.keys()
    for name, values in found.items():
        total = np.zeros(tuple(values.shape))
        for part in parts:
            numbers = part[name].numpy().astype(np.float64)
            numbers[numbers == 0] = numbers[numbers > 0].min()
            logs = np.log(numbers)
            total += (logs - logs.mean()) / logs.std()
        np.testing.assert_allclose(values.log().numpy(), total, atol=2e-3)


def test_how_much_goes_through_at_once() -> None:
    assert [rows_at_once(length) for length in (8, 128, 300, 512, 4096)] == [16, 16, 4, 4, 1]
