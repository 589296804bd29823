"""Searches for a latency: how many neurons it takes, what is refused, and what is said of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import Run
from hypothesis import given
from hypothesis import strategies as st
from small_search import interrupted, small_config

from tamtctl.foundations.errors import DamagedRunError, UsageError
from tamtctl.foundations.estimates import Interval
from tamtctl.foundations.masks import keep_count
from tamtctl.models.sizes import Size
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.latency.counting import (
    count_for_latency,
    first_counts,
    interpolated,
    sparsity_keeping,
)
from tamtctl.pruning.latency.record import LATENCY, FoundLatency
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.ticket import Ticket

WIDTHS = st.sampled_from([2, 3, 32, 100, 512, 1536, 3072])
# A latency at 0 neurons, and how it rises: latency = least + (1 - least) · share ** power.
CURVES = st.tuples(st.floats(0, 0.8), st.floats(0.7, 1.5))


def measuring(curve: Callable[[int], float]) -> Callable[[Sequence[int]], Mapping[int, Interval]]:
    return lambda counts: {count: Interval(curve(count), None, None) for count in counts}


@given(WIDTHS, CURVES, st.floats(0.01, 0.99))
def test_the_number_of_neurons_is_next_to_the_target(
    neurons: int, shape: tuple[float, float], target: float
) -> None:
    least, power = shape

    def curve(count: int) -> float:
        return float(least + (1 - least) * (count / neurons) ** power)

    if curve(1) > target:
        with pytest.raises(UsageError, match="cannot be reached: with 1 of"):
            count_for_latency(measuring(curve), target, neurons, "it", "neurons")
        return
    count, ratio = count_for_latency(measuring(curve), target, neurons, "it", "neurons")
    assert 1 <= count < neurons
    assert ratio.value == curve(count)
    step = max(1, neurons // 64)
    possible = sorted({1, *range(step, neurons, step), neurons})
    jump = max(curve(b) - curve(a) for a, b in itertools.pairwise(possible))
    assert abs(ratio.value - target) <= max(jump, 0.03)


def test_a_target_within_the_noise_is_not_out_of_reach() -> None:
    def measure(counts: Sequence[int], low: float) -> dict[int, Interval]:
        return {count: Interval(0.85, low, 0.95) for count in counts}

    count, ratio = count_for_latency(partial(measure, low=0.74), 0.8, 512, "it", "neurons")
    assert (1 <= count < 512, ratio.value) == (True, 0.85)
    with pytest.raises(UsageError, match=r"still takes 0.85 .* \[0.810, 0.950\]"):
        count_for_latency(partial(measure, low=0.81), 0.8, 512, "it", "neurons")


@given(WIDTHS, st.lists(st.floats(0.1, 1.5), min_size=4, max_size=4), st.floats(0.01, 0.99))
def test_noise_gives_a_number_that_was_measured(
    neurons: int, noise: list[float], target: float
) -> None:
    asked: list[int] = []

    def curve(count: int) -> float:
        asked.append(count)
        return noise[count % 4]

    try:
        count, ratio = count_for_latency(measuring(curve), target, neurons, "it", "neurons")
    except UsageError:
        return
    assert count in asked
    assert ratio.value == noise[count % 4]
    assert all(1 <= one < neurons for one in asked)
    assert len(asked) == len(set(asked)) <= 8


@given(WIDTHS, st.lists(st.floats(0.1, 1.2), min_size=4, max_size=4), st.floats(0, 1))
def test_a_higher_latency_takes_no_fewer_neurons(
    neurons: int, ratios: list[float], target: float
) -> None:
    told = dict(zip(first_counts(neurons), ratios, strict=False)) | {neurons: 1.0}
    assert interpolated(told, target, neurons) <= interpolated(told, target + 0.05, neurons)


@given(st.integers(2, 5000).flatmap(lambda of: st.tuples(st.integers(1, of), st.just(of))))
def test_a_sparsity_keeps_exactly_so_many(numbers: tuple[int, int]) -> None:
    kept, of = numbers
    assert keep_count(of, sparsity_keeping(kept, of)) == kept


def test_a_sparsity_has_few_digits() -> None:
    assert sparsity_keeping(256, 512) == 0.5
    assert sparsity_keeping(1, 512) == 0.999


NEURONS = "--pattern neurons --latency 0.75"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"{NEURONS} --sparsity 0.5", "--sparsity and --latency both say"),
        ("--latency 0.75", "--latency is for patterns that make a model faster, neurons, and not"),
        ("--latency 0.75 --pattern 2:4", "--latency is for patterns that make a model faster"),
        ("--latency 0.75 --pattern block:4x4", "not for --pattern block:4x4"),
        ("--pattern neurons --latency 1", "--latency must be above 0 and below 1, got 1.0"),
        ("--pattern neurons --latency 0", "--latency must be above 0 and below 1, got 0.0"),
        ("--pattern neurons --latency nan", "--latency must be above 0 and below 1, got nan"),
        (f"{NEURONS} --latency-batch 0", "--latency-batch must be at least 1, got 0"),
        ("--sparsity 0.5 --latency-length 8", "--latency-length is for --latency"),
        ("--sparsity 0.5 --latency-backend onnx", "--latency-backend is for --latency"),
        (f"{NEURONS} --latency-backend tvm", "--latency-backend must be one of torch, onnx"),
        ("--pattern heads --latency 0.75", "give --latency-backend onnx"),
        (
            "--pattern heads --latency 0.75 --latency-backend onnx --allocation global",
            "finds how much each layer keeps",
        ),
        (f"{NEURONS} --method imp", "--latency is not for --method imp"),
        (f"{NEURONS} --from-scores run", "--from-scores takes all from that run"),
        (f"{NEURONS} --recipe paper", "--steps follows from the sparsity"),
        (f"{NEURONS} --init-scores two-valued", "--learning-rate follows from the sparsity"),
        (f"{NEURONS} --latency-length 500 --threads 1", "--latency-length 500 is more than"),
        (f"{NEURONS} --latency-threads 5000 --threads 1", "--latency-threads 5000 is more than"),
        # So short a time no model of one neuron takes.
        (
            "--pattern neurons --latency 0.001 --latency-batch 1 --latency-length 8",
            "with its masked-lm head still takes",
        ),
    ],
)
@pytest.mark.usefixtures("working_folder")
def test_what_cannot_be_is_one_line(
    options: str, said: str, tiny_model: Path, text_file: Path, run: Run
) -> None:
    at = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    done = run("search", *at, *options.split())
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert not Path("runs").exists()


def test_a_request_is_named_by_what_it_asks_for() -> None:
    def named(**changes: Any) -> SearchConfig:
        return SearchConfig.from_recipe("nano", pattern="neurons", **changes)

    plain = named(latency=0.75)
    assert (plain.latency_batch, plain.latency_length, plain.latency_threads) == (32, 128, 1)
    told = plain.to_dict()
    assert (told["sparsity"], told["latency"], told["latency_batch"]) == (None, 0.75, 32)
    assert named(latency=0.75, latency_batch=32).hash == plain.hash
    assert named(latency=0.75, latency_backend="torch").hash == plain.hash
    others = [
        named(latency=0.75, latency_backend="onnx"),
        named(latency=0.5), named(latency=0.75, latency_batch=1),
        named(latency=0.75, latency_length=64), named(latency=0.75, latency_threads=2),
        named(sparsity=0.5),
    ]  # fmt: skip
    assert len({plain.hash, *(one.hash for one in others)}) == 7
    assert not any("latency" in name for name in others[-1].to_dict())


@pytest.mark.parametrize("recipe", ["nano", "fast", "paper"])
def test_what_trains_nothing_needs_no_rate_and_no_steps(recipe: str, tiny_model: Path) -> None:
    config = SearchConfig.from_recipe(
        recipe, latency=0.75, model=str(tiny_model), corpus="text.txt", pattern="neurons",
        method="magnitude",
    )  # fmt: skip
    assert config.sparsity is None


FOUND = FoundLatency(0.75, Size(1, 32, 128), None, 288, 512, Interval(0.76, 0.74, 0.78))


def test_what_was_measured_can_be_kept_and_is_told(tmp_path: Path) -> None:
    assert FoundLatency.read(tmp_path) is None
    FOUND.write(tmp_path)
    assert FoundLatency.read(tmp_path) == FOUND
    (tmp_path / LATENCY).write_text("{}")
    with pytest.raises(DamagedRunError, match="--force measures anew"):
        FoundLatency.read(tmp_path)
    done = replace(FOUND, exported=Interval(0.79, 0.77, 0.81))
    assert FoundLatency.from_dict(done.to_dict()) == done
    assert str(done) == (
        "0.79 × dense [0.770, 0.810] at 32 × 128, 1 thread, torch, for 288 of 512 neurons in each "
        "layer; 0.75 is asked for"
    )
    assert "[0.770, 0.810] with its masked-lm head at 32" in str(replace(done, head="masked-lm"))
    heads = replace(done, backend="onnx", noun="heads", kept=7, of=12)
    assert FoundLatency.from_dict(heads.to_dict()) == heads
    assert "1 thread, onnx, for 7 of 12 heads in each layer" in str(heads)
    assert heads.identity == {"heads of the latency": "7 of 12"}
    assert "noun" not in done.to_dict()


def test_a_target_that_is_missed_has_a_line() -> None:
    assert FOUND.miss is None
    assert replace(FOUND, exported=Interval(0.79, None, None)).miss is None
    slow = replace(FOUND, exported=Interval(0.83, 0.8, 0.86)).miss
    assert slow is not None
    assert slow.startswith("The exported model takes 0.83 × the dense one's time, and not 0.75:")
    assert "times vary on this machine" in slow
    flat = replace(FOUND, chosen=Interval(0.6, None, None), exported=Interval(0.6, None, None)).miss
    assert flat is not None
    assert "no other number of neurons that was tried is nearer" in flat


@pytest.mark.slow
@pytest.mark.usefixtures("working_folder")
def test_a_search_for_a_latency(text_file: Path, tmp_path: Path, run: Run) -> None:
    """What is said agrees, whatever the times on this machine are."""
    tiny.save(Path("wide"), "bert", hidden_size=64, intermediate_size=4096)
    shape = {"pattern": "neurons", "sparsity": None, "latency": 0.6, "latency_batch": 8}
    config = small_config(
        Path("wide"), text_file, **shape, latency_length=32, steps=6, checkpoint_every=2,
        learning_rate=2e-2,
    )  # fmt: skip
    interrupted(config, tmp_path / "run", 4)
    kept = FoundLatency.read(tmp_path / "run")
    assert kept is not None
    found = search(config, output_dir=tmp_path / "run")
    assert found.resumed_from >= 2
    assert found.latency is not None
    assert replace(found.latency, exported=None) == kept  # and not what another measurement gives
    assert found.target_sparsity == kept.sparsity
    ticket = Ticket.load(found.ticket)
    seconds = [name for name in ticket.parameters if name.endswith("output.dense.weight")]
    assert [int(ticket.mask(name)[0].sum()) for name in seconds] == [kept.kept] * 2
    told = found.to_dict()["latency"]
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(ticket.metrics["latency"]))
    size = {"backend": "torch", "batch": 8, "length": 32, "threads": 1, "target": 0.6}
    size |= {"head": "masked-lm"}
    assert size.items() <= told.items()
    assert (told["miss"] is None) == (abs(told["exported"]["value"] - 0.6) <= 0.05)
    assert "latency.exported.value" in card(ticket)
    again = search(config, output_dir=tmp_path / "run")
    assert again == replace(found, already_done=True, resumed_from=again.resumed_from)
    planned = run(
        "search", *"--model wide --pattern neurons --latency 0.6 --latency-batch 8".split(),
        *"--latency-length 32 --sequence-length 16 --method magnitude --dry-run".split(),
        "--corpus", text_file, "--device", "cpu",
    )  # fmt: skip
    assert planned.code == 0, planned.err
    assert "0.6 is asked for" in " ".join(planned.out.split())
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("pattern", "of", "shape"),
    [  # so wide that most of the time is what can be pruned
        ("heads", 8, {"hidden_size": 256, "num_attention_heads": 8, "intermediate_size": 16}),
        ("neurons", 4096, {"hidden_size": 64, "intermediate_size": 4096}),
    ],
)
def test_a_search_for_a_latency_in_onnx(
    pattern: str, of: int, shape: dict[str, int], text_file: Path, tmp_path: Path
) -> None:
    """A graph is written for each number that is tried."""
    pytest.importorskip("onnxscript")
    model = tiny.save(tmp_path / "wide", "bert", with_head=False, num_hidden_layers=1, **shape)
    config = small_config(
        model, text_file, pattern=pattern, sparsity=None, latency=0.8, latency_batch=8,
        latency_length=32, latency_backend="onnx", method="magnitude", objective="kd",
    )  # fmt: skip
    found = search(config, output_dir=tmp_path / "run")
    assert found.latency is not None
    assert found.latency.exported is not None
    ticket = Ticket.load(found.ticket)
    assert (found.latency.of, found.latency.backend) == (of, "onnx")
    assert ticket.sparsity == pytest.approx(1 - found.latency.kept / of)
    assert ticket.metrics["latency"]["backend"] == "onnx"
