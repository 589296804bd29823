"""Speed of a mask training step, as ratios to a dense training step taken in turn in one run.

Random weights in real shapes and random text. The yardstick is a step of the stock
``BertForMaskedLM`` as one would write it: head over all positions, labels of -100, SDPA, fused
AdamW. A fairer one has its head at the masked positions only, as ours does. The floor is our
forward and backward alone. Every number is a median over rounds in which each step is taken once.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, processors
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertTokenizer, PreTrainedTokenizerFast

from tamtctl.data.batch import Batch
from tamtctl.data.batches import made_ahead, training_batches
from tamtctl.data.corpus import load_corpus
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Blocks
from tamtctl.foundations.devices import Compute
from tamtctl.models.encoder import Encoder, maskable_matrices
from tamtctl.models.loading import load_tokenizer
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.one_shot import keep_counts, reference_masks
from tamtctl.pruning.trained.initial_scores import KEPT_SCORE, Start
from tamtctl.pruning.trained.mask_training import MaskTraining

VOCABULARY = 30_522
SPARSITY = 0.7
# Scores of a search at work: many within reach of the threshold, so that the masks move, and as
# many above the first one as are kept.
SPREAD, RATE = 0.01, 5e-5
SCORES = KEPT_SCORE / 2 - SPREAD * statistics.NormalDist().inv_cdf(SPARSITY), SPREAD
NEAR_FLOOR, NEAR_FAIR_DENSE, THRESHOLD_SHARE = 1.10, 1.10, 0.05
# What an update moves between memory and processor: bytes per weight of a linear layer in fp32,
# by its passes. At least, each of five tensors is read once and each of four written once.
PASSES = {
    "gradient times frozen, into the parameter": 12,
    "norm": 4,
    "Adam, gradient scaled in place": 32,
    "threshold": 4,
    "fold": 12,
}
LEAST = 4 * (5 + 4)
FROM_TEXT, FROM_CACHE = 1.5e6, 20e6  # tokens per second
_REAL = Path(__file__).parents[3] / "shared" / "data"

FP32_CPU = Compute(torch.device("cpu"), "fp32")

Step = Callable[[], None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Shape:
    """A model, a batch, and what a step of each objective may cost of a dense one."""

    layers: int
    hidden: int
    rows: int
    goals: dict[str, float]
    length: int = 128

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden}"

    def model(self) -> BertForMaskedLM:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // 64,
            intermediate_size=4 * self.hidden,
        )
        model = BertForMaskedLM(config)
        model.train()
        return model


SHAPES = [
    Shape(4, 256, 8, {"mlm": 0.40}),
    Shape(4, 512, 8, {"mlm": 0.52, "kd": 0.75, "mlm+kd": 0.82}),
    Shape(12, 768, 4, {"mlm": 0.90}),
]


def main() -> bool:
    """Measure, print the tables, and return whether all goals are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks search")
    parser.add_argument(
        "--busy", action="store_true", help="processor time of one thread, on a busy machine"
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--shapes", nargs="*", choices=list(map(str, SHAPES)), metavar="SHAPE")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.busy else 2)
    clock = time.process_time if options.busy else time.perf_counter
    console = Console(width=110)
    met = []
    for shape in SHAPES:
        if options.shapes is None or str(shape) in options.shapes:
            table, goals_met = _steps(shape, options.rounds, clock)
            console.print(table)
            met.append(goals_met)
    table, goals_met = _reading(clock)
    console.print(table)
    met.append(goals_met)
    passes = ", ".join(f"{name} {size}" for name, size in PASSES.items())
    moved = sum(PASSES.values())
    console.print(f"update: {moved} bytes moved per weight, {LEAST} at least ({passes})")
    console.print(f"goals met: {all(met)}")
    return all(met)


def _steps(shape: Shape, rounds: int, clock: Clock) -> tuple[Table, bool]:
    batches = batches_of(shape)
    ours = {objective: Ours(shape, objective, clock) for objective in shape.goals}
    steps: dict[str, Step] = {
        "dense": dense_step(shape, batches, at_masked=False),
        "dense, head at masked positions": dense_step(shape, batches, at_masked=True),
    }
    for objective, training in ours.items():
        steps[objective] = training.step
        steps[f"{objective} floor"] = _floor(shape, objective, batches)
    seconds = in_turn(steps, rounds, clock)

    def ratio(step: str, yardstick: str) -> float:
        pairs = zip(seconds[step], seconds[yardstick], strict=True)
        return statistics.median(a / b for a, b in pairs)

    rows: list[tuple[str, float, float | None]] = [
        (
            "dense with its head at masked positions / dense",
            ratio("dense, head at masked positions", "dense"),
            None,
        )
    ]
    for objective, goal in shape.goals.items():
        floor = f"{objective} floor"
        share = statistics.median(ours[objective].threshold_shares[-rounds:])
        rows += [
            (f"{objective} / dense", ratio(objective, "dense"), goal),
            (f"{objective} floor / dense", ratio(floor, "dense"), None),
            (f"{objective} / its floor", ratio(objective, floor), NEAR_FLOOR),
            (f"{objective}: share of the thresholds and the fold", share, THRESHOLD_SHARE),
        ]
        if objective == "mlm":
            fair = ratio(objective, "dense, head at masked positions")
            rows.append((f"{objective} / dense with its head at masked", fair, NEAR_FAIR_DENSE))
    milliseconds = statistics.median(seconds["dense"]) * 1e3
    return _table(
        f"{shape}, {shape.rows}x{shape.length} tokens, {torch.get_num_threads()} threads, "
        f"dense step {milliseconds:.0f} ms",
        rows,
    )


def _table(title: str, rows: list[tuple[str, float, float | None]]) -> tuple[Table, bool]:
    """Lay out (what, measured, at most)."""
    table = Table("median", title=title, title_justify="left")
    for column in ("measured", "at most", "met"):
        table.add_column(column, justify="right")
    met = True
    for name, value, goal in rows:
        is_met = goal is None or value <= goal
        met &= is_met
        known = "" if goal is None else f"{goal:.2f}"
        table.add_row(name, f"{value:.3f}", known, known and ("yes" if is_met else "NO"))
    return table, met


def in_turn(
    steps: dict[str, Step], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of every step in every round; each round has an order of its own."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    shuffle = random.Random(0)
    for number in range(rounds + 3):
        shuffle.shuffle(order)
        for name in order:
            started = clock()
            steps[name]()
            if number >= 3:  # the first ones warm up
                seconds[name].append(clock() - started)
    return seconds


class Ours:
    """The steps of a search, as the search itself takes them."""

    def __init__(
        self,
        shape: Shape,
        objective: str,
        clock: Clock = time.perf_counter,
        *,
        low_memory: bool = False,
        is_compiled: bool = False,
        compute: Compute = FP32_CPU,
    ) -> None:
        self._clock = clock
        with compute.device:
            encoder = encoder_of(shape)
        keep = keep_counts(encoder.weights, SPARSITY)
        start = Start(reference_masks(encoder.weights, keep), keep)
        config = SearchConfig(
            sparsity=SPARSITY,
            model="random",
            corpus=("random",),
            objective=objective,
            steps=10**6,
            batch_size=shape.rows,
            sequence_length=shape.length,
            learning_rate=RATE,
            low_memory=low_memory,
            compile=is_compiled,
        )
        self._training = MaskTraining(config, compute, encoder, blocks_of(shape), start)
        for scores in self._training.folded.scores.values():
            scores.normal_(*SCORES)
        self._training.folded.select()
        self._batches = made_ahead(self._training.steps.batches(), compute.device)
        self._select = self._training.folded.select
        self._training.folded.select = self._timed_select  # type: ignore[method-assign]
        self.threshold_shares: list[float] = []
        self._step = 0

    def step(self) -> None:
        """Take the next batch, and a whole step with it."""
        started = self._clock()
        self._training.steps.backward(next(self._batches), self._training.taking_gradients)
        self._training._update(self._step)
        self._step += 1
        self.threshold_shares.append(self._selecting / (self._clock() - started))

    def _timed_select(self) -> None:
        started = self._clock()
        self._select()
        self._selecting = self._clock() - started


def _floor(shape: Shape, objective: str, batches: Iterator[Batch]) -> Step:
    """Our forward and backward alone."""
    encoder = encoder_of(shape)
    dense = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    with torch.no_grad():
        for name, mask in reference_masks(dense, keep_counts(dense, SPARSITY)).items():
            encoder.matrices[name].mul_(mask)
    loss = Objective(encoder, objective, dense)

    def step() -> None:
        terms = loss.terms(next(batches), dropout=True)
        torch.stack([values.mean() for values in terms.values()]).sum().backward()
        encoder.model.zero_grad()

    return step


def dense_step(
    shape: Shape, batches: Iterator[Batch], *, at_masked: bool, compute: Compute = FP32_CPU
) -> Step:
    """A training step of the dense model, all weights trained."""
    with compute.device:
        model = shape.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def loss(batch: Batch) -> Tensor:
        if at_masked:
            states = model.bert(input_ids=batch.input_ids).last_hidden_state
            logits = model.cls(states.flatten(0, 1)[batch.masked])
            return F.cross_entropy(logits, batch.labels)
        labels = torch.full_like(batch.input_ids, -100)
        labels.view(-1)[batch.masked] = batch.labels
        output: Tensor = model(input_ids=batch.input_ids, labels=labels).loss
        return output

    def step() -> None:
        with compute.autocast():
            value = loss(next(batches).to(compute.device))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def encoder_of(shape: Shape) -> Encoder:
    """Return a model of random weights."""
    model = shape.model()
    return Encoder("random", None, model, _tokenizer(), maskable_matrices(model), {})


def batches_of(shape: Shape) -> Iterator[Batch]:
    return training_batches(blocks_of(shape), shape.rows, 1, noise=Noise.of(_tokenizer()))


def blocks_of(shape: Shape) -> Blocks:
    """Return random text."""
    ids = np.random.default_rng(0).integers(10, VOCABULARY, 2**20, np.uint16)
    return Blocks.of(ids, shape.length, _tokenizer())


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that is never given any text: only its numbers count."""
    names = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *(f"a{i}" for i in range(VOCABULARY - 5)), "a"]
    backend = Tokenizer(models.WordLevel({name: id_ for id_, name in enumerate(names)}))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]", **special)


def _reading(clock: Clock) -> tuple[Table, bool]:
    """Measure text to a token stream on disk with nothing cached, and the stream to batches."""
    if (_REAL / "wikitext-2").is_dir():
        source, name = str(_REAL / "wikitext-2" / "train.txt"), "WikiText-2, BERT's vocabulary"
        tokenizer: PreTrainedTokenizerFast = BertTokenizer(
            vocab=str(_REAL / "bert-base-uncased-vocab" / "vocab.txt")
        )
    else:
        source, name = "python-docs", "python-docs, nano's vocabulary (no ../shared/data here)"
        tokenizer = load_tokenizer("nano")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAMTCTL_CACHE"] = folder
        load_corpus("python-docs", load_tokenizer("nano"))  # what is only needed once per process
        started = clock()
        corpus = load_corpus(source, tokenizer)
        from_text = corpus.tokens / (clock() - started)
        blocks = Blocks.of(corpus.train, 512, tokenizer)
        rates = [_batch_rate(blocks, noise, clock) for noise in (None, Noise.of(tokenizer))]
    table = Table("tokens/s", title=f"reading {name}", title_justify="left")
    for column in ("measured", "at least", "met"):
        table.add_column(column, justify="right")
    met = from_text >= FROM_TEXT and rates[0] >= FROM_CACHE
    rows: list[tuple[str, float, float]] = [
        ("from text to the cache", from_text, FROM_TEXT),
        ("16x512 batches from the cache", rates[0], FROM_CACHE),
        ("the same with the noise of masked LM", rates[1], 0),
    ]
    for what, rate, goal in rows:
        is_met = "yes" if rate >= goal else "NO"
        table.add_row(what, f"{rate:,.0f}", f"{goal:,.0f}" if goal else "", is_met if goal else "")
    return table, met


def _batch_rate(blocks: Blocks, noise: Noise | None, clock: Clock) -> float:
    seconds = []
    batches = training_batches(blocks, 16, 1, noise=noise)
    for _ in range(50):
        started = clock()
        next(batches)
        seconds.append(clock() - started)
    return 16 * blocks.sequence_length / statistics.median(seconds)
