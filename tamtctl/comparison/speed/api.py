"""The function `bench`: size, load time and latency of models, in turns with the dense one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Never

import torch

from tamtctl.comparison.speed.config import DENSE, BenchConfig
from tamtctl.comparison.speed.result import BenchResult, Measured
from tamtctl.comparison.speed.subjects import (
    TORCH,
    Subject,
    load_seconds,
    size_of,
    subjects_of,
)
from tamtctl.comparison.tasks_without_training import data_identity
from tamtctl.data.text.documents import PYTHON_DOCS
from tamtctl.data.text.sources import open_source
from tamtctl.foundations.checks import one_of
from tamtctl.foundations.config import settings_of
from tamtctl.foundations.devices import check_threads
from tamtctl.foundations.errors import ModelError, TamtctlError, UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.watching import Silent, Watcher, default_watcher
from tamtctl.foundations.working import watched, work
from tamtctl.models.heads import NONE
from tamtctl.models.onnx.encoder import find_graph
from tamtctl.models.sizes import Size
from tamtctl.models.timing import (
    Latency,
    Run,
    latency,
    random_texts,
    threads_as_before,
    timed_in_turns,
)
from tamtctl.pruning.objectives import objectives, terms_of
from tamtctl.pruning.recovery.record import recovered_from, trainings_of
from tamtctl.tasks.benchmarks.table import tasks_without_training
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.measures import MEASURES
from tamtctl.tasks.run_facts import RunFacts
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.local_names import ticket_names
from tamtctl.ticket.trained_on import TrainedOn
from tamtctl.training.run_folder import is_run

_WIDE = 0.25  # interquartile range of the times, as a share of their median, that is worth a note


@watched(default_watcher)
def bench(config: BenchConfig, *, watcher: Watcher[Never] | None = None) -> BenchResult:
    """Measure sizes, load times and latencies of models, and their quality if a task is given.

    All models run in turns on the same random tokens, so that a busy machine slows all of them
    down. The ratio to the dense model is taken within each round.

    Args:
        config: What to measure.
        watcher: Is told how it goes; by default, a notebook shows it and a script shows nothing.

    Raises:
        TamtctlError: A model cannot be loaded, or cannot take texts of a length.

    Example:
        >>> measured = tamtctl.bench(speeds)
        >>> measured.rounds, [size.length for size in measured.sizes]
        (3, [16])
    """
    watcher = watcher or Silent()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    dense = _dense(config)
    subjects = _subjects(config, dense)
    evaluations = _Evaluations(config, dense)
    _check_tasks(evaluations)
    threads = config.threads or tuple(dict.fromkeys((1, cores)))
    check_threads("threads", max(threads))
    sizes = [Size(t, b, n) for t in threads for b in config.batch_sizes for n in config.lengths]
    words = _check_sizes(subjects, sizes)
    reference = next((one for one in subjects if one.name == dense), None)
    if reference and reference.backend != TORCH:
        raise ModelError(f"the dense model {dense!r} has no weights for torch to be measured with")
    with threads_as_before():
        latencies = _latencies(config, subjects, reference, sizes, words)
        torch.set_num_threads(threads[0])
        loading = {one: load_seconds(one, threads[0]) for one in subjects}
    rows, other_words = [], _of_other_words(subjects, reference)
    for one in subjects:
        watcher.status(f"measuring {one.name} ({one.backend})")
        others = other_words.get(one)
        quality = _quality(evaluations, one, others)
        found = _measured(one, quality, latencies[one], loading[one])
        rows.append(replace(found, is_dense=one == reference))
    texts = dict.fromkeys(f"{t}: {said}" for row in rows for t, said in row.losses_of.items())
    notes = (
        *texts,
        *_on_heads(subjects, reference),
        *dict.fromkeys(_on_words(one, words) for one, words in other_words.items()),
        *_noise(rows, load, cores),
        *_without_intervals(rows),
    )
    return BenchResult(tuple(rows), tuple(sizes), config.rounds, cores, load, notes)


def _subjects(config: BenchConfig, dense: str | None) -> list[Subject]:
    """Return the models to measure, the dense one first.

    Raises:
        UsageError: A name is that of a ticket or of a run.
    """
    by_place: dict[str, str] = {}
    for name in (*([dense] if dense else []), *config.folders):
        by_place.setdefault(_place(name), name)
    names = list(by_place.values())
    for name in names:
        if (expanded(name) / METADATA_FILE).is_file() or name in ticket_names():
            raise UsageError(f"{name!r} is a ticket; export it first, and give the folder")
        if is_run(expanded(name)):
            raise UsageError(
                f"{name!r} is a run; give the folder of a model: a seed's, the recovered model, or "
                "what export writes of its ticket"
            )
    return [one for name in names for one in subjects_of(name)]


def _place(name: str) -> str:
    """Return what two names of one model have in common."""
    path = expanded(name)
    return str(path.resolve()) if path.is_dir() else name


def _check_tasks(evaluations: _Evaluations) -> None:
    """Refuse, before any work, tasks that are not known, or lack data or a dense model."""
    config, dense = evaluations.config, evaluations.dense
    facts = [RunFacts.read(expanded(name)) for name in config.folders]
    own = [one.task.name for one in facts if one is not None]
    without = [
        name
        for name, one in zip(config.folders, facts, strict=True)
        if not (dense or (one and one.model) or recovered_from(name))
    ]
    for task in config.tasks:
        one_of("task", task, [*settings_of(BenchConfig)["tasks"].names, *own])
        if task in tasks_without_training():
            data_identity(evaluations.of(config.folders[0], task))
        elif without and task in objectives() and terms_of(task).need_teacher:
            raise UsageError(
                f"--task {task} measures how far a model is from the dense one; give that with "
                f"--against, as {without[0]} does not say which it was"
            )


def _measured(
    subject: Subject, quality: _Quality, latencies: Mapping[Size, Latency], loading: float
) -> Measured:
    """Return the row of a model: its sizes, quality and times."""
    files = subject.files()
    bytes_, compressed = size_of(files) if files else (None, None)
    return Measured(
        name=subject.name,
        backend=subject.backend,
        is_dense=False,
        bytes=bytes_,
        compressed=compressed,
        load_seconds=loading,
        latencies=latencies,
        quality=quality.found,
        without_quality=quality.without,
        losses_of=quality.losses_of,
    )


def _dense(config: BenchConfig) -> str | None:
    """Return the name of the dense model."""
    if config.against != DENSE:
        return config.against
    bases = {base for name in config.folders if (base := recovered_from(name)) is not None}
    if len(bases) == 1:
        return bases.pop()
    if bases:
        raise UsageError(
            f"the checkpoints have different dense models, {' and '.join(sorted(bases))}; measure "
            "those of one model at a time"
        )
    raise UsageError(
        f"--against {DENSE} takes a checkpoint that recover wrote, which names its base model; "
        "give the dense model itself, --against FOLDER"
    )


def _check_sizes(subjects: Sequence[Subject], sizes: Sequence[Size]) -> int:
    """Return the smallest vocabulary of the models, and refuse lengths that one cannot take."""
    least = 2**31
    for one in subjects:
        words, longest = one.limits
        least = min(least, words)
        if (most := max(size.length for size in sizes)) > longest:
            raise UsageError(
                f"--lengths {most} is more than {one.name!r} can take; give at most {longest}"
            )
    return least


def _latencies(
    config: BenchConfig,
    subjects: Sequence[Subject],
    reference: Subject | None,
    sizes: Sequence[Size],
    words: int,
) -> dict[Subject, dict[Size, Latency]]:
    """Time all models at all sizes, in turns, each beside the dense model with the same head."""
    found: dict[Subject, dict[Size, Latency]] = {one: {} for one in subjects}
    generator = torch.Generator().manual_seed(config.seed)
    heads = _other_heads(subjects, reference)
    with work("timing", (len(subjects) + len(heads)) * len(sizes) * config.rounds) as tick:
        for threads in dict.fromkeys(size.threads for size in sizes):
            torch.set_num_threads(threads)
            loaded: dict[Subject | str, Run] = {one: one.load(threads) for one in subjects}
            if reference:
                loaded |= {head: reference.load(threads, head) for head in heads}
            for size in (size for size in sizes if size.threads == threads):
                values = random_texts(size, words, generator)
                runs: list[Callable[[], object]] = [partial(r, values) for r in loaded.values()]
                timed = timed_in_turns(runs, config.rounds, config.seed, tick)
                seconds = dict(zip(loaded, timed, strict=True))
                for one in subjects:
                    beside = None
                    if reference and one != reference:
                        beside = seconds[one.head if one.head in heads else reference]
                    found[one][size] = latency(seconds[one], beside, config.seed)
    return found


def _other_heads(subjects: Sequence[Subject], reference: Subject | None) -> list[str]:
    """Return the heads of models that the dense one does not run with."""
    if reference is None:
        return []
    return sorted({one.head for one in subjects} - {reference.head})


def _on_heads(subjects: Sequence[Subject], reference: Subject | None) -> Iterator[str]:
    """Yield notes on models whose times are compared with the dense one's under another head."""
    for head in _other_heads(subjects, reference):
        names = dict.fromkeys(one.name for one in subjects if one.head == head)
        what = "no head" if head == NONE else f"a head for {head}"
        yield f"{', '.join(names)}: timed with {what}, and so is the dense model for the ratio"


def _of_other_words(subjects: Sequence[Subject], reference: Subject | None) -> dict[Subject, str]:
    """Return model → the sizes of both vocabularies in words, where they differ."""
    if reference is None:
        return {}
    of_dense, words = reference.limits[0], {one: one.limits[0] for one in subjects}
    return {
        one: f"{n:,} tokens, the dense one's {of_dense:,}"
        for one, n in words.items()
        if n != of_dense
    }


def _on_words(subject: Subject, words: str) -> str:
    """Return a note on a model with another vocabulary than the dense one's."""
    return (
        f"{subject.name}: its vocabulary has {words}, so that it cuts a text into more or fewer "
        "tokens: the ratios of times are for as many tokens, not for the same text"
    )


@dataclass(frozen=True)
class _Evaluations:
    """How the quality of the models is measured.

    Attributes:
        config: What to measure.
        dense: The dense model; None if there is none.
    """

    config: BenchConfig
    dense: str | None

    def of(self, name: str, task: str) -> EvaluateConfig:
        """Return the configuration by which evaluate measures a model on a task."""
        # A graph runs on the CPU; beside it, the others are to differ in nothing else.
        same: dict[str, Any] = {"name": name, "task": task, "device": "cpu", "precision": "fp32"}
        if task in MEASURES:
            return EvaluateConfig(**same, **MEASURES[task].settings(self.config))
        if task not in objectives():
            return EvaluateConfig(**same, data_dir=self.config.data_dir)
        return EvaluateConfig(
            **same,
            model=self.dense if terms_of(task).need_teacher else None,
            corpus=self.config.corpus,
            blocks=self.config.blocks,
            held_out_tenth=self._only_tenth,
        )

    @cached_property
    def _only_tenth(self) -> bool:
        """Whether one of the models was trained on the text; all are measured on the same text."""
        trainings = [one for name in self.config.folders for one in trainings_of(name)]
        if not trainings:
            return False
        names = self.config.corpus or (PYTHON_DOCS,)
        sources = [source for name in names for source in open_source(name)]
        return not all(TrainedOn(trainings).choose(sources))


@dataclass(frozen=True)
class _Quality:
    """The quality of a model.

    Attributes:
        found: Task → metric, value and standard error.
        without: Task → why it has no value.
        losses_of: Task → the unit of a loss, and the text that it is of.
    """

    found: Mapping[str, tuple[str, float, float | None]]
    without: Mapping[str, str]
    losses_of: Mapping[str, str]


def _quality(evaluations: _Evaluations, subject: Subject, other_words: str | None) -> _Quality:
    """Measure the quality of a model; ``other_words`` says how its vocabulary is another one."""
    found, without, losses_of = {}, {}, {}
    for task in evaluations.config.tasks:
        try:
            is_of_embeddings = task in tasks_without_training()
            if subject.file and not (is_of_embeddings and find_graph(subject.name)):
                raise ModelError("only embeddings are measured of a graph, in a folder of its own")
            if other_words and task in objectives():
                raise ModelError(
                    f"its vocabulary has {other_words}: losses of other tokens cannot be compared "
                    "with the dense model's"
                )
            said = evaluate(evaluations.of(subject.name, task))
            found[task] = said.metric, said.score, said.standard_error
            if said.unit and said.text:
                losses_of[task] = f"{said.unit}, on {said.text}"
        except TamtctlError as error:
            without[task] = str(error)
    return _Quality(found, without, losses_of)


def _without_intervals(rows: Sequence[Measured]) -> Iterator[str]:
    """Yield why the ratios have no interval, if they have none."""
    ratios = (one.ratio for row in rows for one in row.latencies.values())
    for why in dict.fromkeys(one.why_none for one in ratios if one and one.low is None):
        yield f"the ratios have no interval: {why}"


def _noise(rows: Sequence[Measured], load: float, cores: int) -> Iterator[str]:
    """Yield notes on how far the times can be trusted."""
    if load > cores / 2:
        yield (
            f"the machine was busy before this began (a load of {load:.1f} on {cores} cores): the "
            "ratios are taken within each round, but all times are longer than on an idle one"
        )
    wide = [
        (one.spread, row.name, str(size))
        for row in rows
        for size, one in row.latencies.items()
        if one.spread > _WIDE
    ]
    if wide:
        spread, name, size = max(wide)
        yield (
            f"times vary: half of the runs of {name} at {size} lie {spread:.0%} of the median "
            "apart; give more --rounds, or a quieter machine"
        )
