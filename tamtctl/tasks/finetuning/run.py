"""From a ticket and a task to a fine-tuned model and its scores (TAMT, §4.1).

The mask is applied to the pre-trained weights; the weights that are left and everything outside of
the mask are trained.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.data.padded_batches import Features
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.environment import environment
from tamtctl.foundations.errors import DamagedRunError, DivergedError
from tamtctl.foundations.one_at_a_time import random_numbers
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.models.loading import load_tokenizer, save_model
from tamtctl.models.pipeline_files import HEAD_SETTINGS, PipelineFiles
from tamtctl.models.text_inputs import TextInputs
from tamtctl.pruning.identity import finetune_identity
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.known_runs import (
    SETTING,
    KnownRun,
    beside_checkpoint,
    runs_beside,
    setting_of,
)
from tamtctl.tasks.finetuning.own_zeros import what_becomes_of_zeros
from tamtctl.tasks.finetuning.rate_search import RateSearch, Trials, rates_around, trial_steps
from tamtctl.tasks.finetuning.schedule import TaskSchedule, schedule_for
from tamtctl.tasks.finetuning.scored_sets import ScoredSets
from tamtctl.tasks.finetuning.seed_run import Schedule, SeedRun
from tamtctl.tasks.finetuning.starting_point import StartingPoint, with_default_ticket
from tamtctl.tasks.finetuning.untrained import (
    ADVICE,
    ADVICE_BESIDES,
    Finding,
    loss_hardly_moved,
    no_better,
    same_answer,
    sentence,
)
from tamtctl.tasks.kinds.base import Predictions, kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.table import primary_metric
from tamtctl.tasks.labelled.dev_split import DEV_FILE, DevSplit, save_examples
from tamtctl.tasks.labelled.notes import cut_notes, overlap_note
from tamtctl.tasks.labelled.opening import open_own_task, open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import TASKS, find_task
from tamtctl.tasks.run_facts import SEED_METRICS, places_of
from tamtctl.tasks.task import Task
from tamtctl.training.checkpoints import Checkpoints
from tamtctl.training.loop import StepReport
from tamtctl.training.run_folder import CHECKPOINTS, CONFIG, RESULT, RUNS, RunFolder, write_json

PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True)
class FinetunePlan:
    """What a fine-tuning run is about to do.

    Attributes:
        task: With the values that will be used.
        training: Rate, epochs and warm-up, and where they are from.
        model: What is loaded.
        ticket: Its name; None for the dense model.
        sparsity: Share of zeros in the masked matrices; 0 for the dense model.
        zeros: ``kept``, those of the ticket or the model's own, or ``trained`` like all others;
            None: there are none.
        data: Where the examples are from.
        train_examples: How many there are to train on.
        dev_examples: How many there are to score on.
        max_length: Tokens per example.
        epochs: Passes over the training set.
        steps: Optimiser steps of each seed.
        seeds: One run each.
        select: ``last`` or ``best``.
        compute: Device and precision.
        run_folder: Where the run will live.
        labels: What the labels are taken for: the classes, or the range of the numbers.
        notes: What a person should know before a score is believed, a line each.
        train_cut: How many of the examples to train on are too long and are cut.
        dev_cut: The same of the dev examples.
        has_made_dev: The dev examples are a part of the training set that is held out.
        rates: The learning rates to try, if the best is to be found.
        patience: Epochs without a better one after which training stops; None: never.
    """

    task: Task
    training: TaskSchedule
    model: str
    ticket: str | None
    sparsity: float
    zeros: str | None
    data: str
    train_examples: int
    dev_examples: int
    max_length: int
    epochs: int
    steps: int
    seeds: tuple[int, ...]
    select: str
    compute: Compute
    run_folder: Path
    labels: str
    notes: tuple[str, ...]
    train_cut: int
    dev_cut: int
    has_made_dev: bool
    rates: tuple[float, ...]
    patience: int | None


@dataclass(frozen=True)
class Scores:
    """One metric over the seeds.

    Attributes:
        scores: One per seed.
        mean: Over the seeds.
        std: Over the seeds, the sample's (n - 1); None for a single one.
        standard_errors: How far another dev set of this size would move each score; None where
            there are too few examples to tell.
        constant: What the same answer to every example scores, see `FinetuneResult`.
    """

    scores: list[float]
    mean: float
    std: float | None
    standard_errors: list[float | None] = field(default_factory=list)
    constant: float | None = None

    @classmethod
    def of(
        cls, values: Sequence[float], errors: Sequence[float | None], constant: float | None
    ) -> Scores:
        """Summarise the scores of the seeds."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(list(values), statistics.fmean(values), std, list(errors), constant)

    @property
    def standard_error(self) -> float | None:
        """The mean of the seeds' standard errors: all are of the same dev set."""
        known = [error for error in self.standard_errors if error is not None]
        return statistics.fmean(known) if known else None


@dataclass(frozen=True, repr=False)
class FinetuneResult(Shown):
    """What fine-tuning came to.

    Attributes:
        task: As asked for.
        metric: The primary metric; ``scores``, ``mean`` and ``std`` are its.
        scores: One per seed.
        mean: Over the seeds.
        std: Over the seeds (n - 1); None for a single one.
        metrics: Every metric over the seeds.
        dev_selected: The scores are of the epoch that is best on the dev set itself: an oracle.
        seeds: In the order of the scores.
        sparsity: Share of zeros in the masked matrices.
        zeros: What became of them; as in `FinetunePlan`.
        model: What was fine-tuned.
        ticket: With which ticket; None for the dense model.
        train_examples: How many there were to train on.
        dev_examples: How many there were to score on.
        epochs: Passes over the training set.
        steps: Optimiser steps of each seed.
        seconds: Of each seed's training, without its scoring.
        checkpoint: The folder of each seed, ready for ``from_pretrained``.
        run_folder: The run's folder.
        resumed_from: How many seeds an interrupted run had already done.
        already_done: Whether an earlier run had done it all.
        labels: What the labels were taken for: the classes, or the range of the numbers.
        notes: What a person should know before a score is believed, a line each.
        train_cut: How many of the examples to train on were too long and were cut.
        dev_cut: The same of the dev examples.
        has_made_dev: The dev examples are a part of the training set that was held out.
        training: Rate, epochs and warm-up, and where they are from.
        standard_error: Of the score of a seed: how far another dev set of this size would move it;
            None where there are too few examples to tell.
        constant_answer: The training set's most frequent class or answer, or mean label.
        constant_score: What it scores on the dev set if it is given to every example.
        untrained: Which seeds learnt nothing, and how that is told; None if none of them is so.
        beside: Finished runs of the same setting under ``runs/``: of the dense model beside a
            ticket, of tickets beside the dense model.
        rate_search: How the learning rate was found, if it was.
        patience: Epochs without a better one after which training stops.
        selected_on: What the reported epoch is the best on; None where it is the last.
        epochs_done: By each seed; fewer than ``epochs`` where it stopped early.
        reported_epochs: Of each seed, the epoch (from 1) that the scores are of.
    """

    task: str
    metric: str
    scores: list[float]
    mean: float
    std: float | None
    metrics: dict[str, Scores]
    dev_selected: bool
    seeds: list[int]
    sparsity: float
    model: str
    ticket: str | None
    train_examples: int
    dev_examples: int
    epochs: int
    steps: int
    seconds: list[float]
    checkpoint: list[Path]
    run_folder: Path
    resumed_from: int = 0
    already_done: bool = False
    labels: str = ""
    notes: tuple[str, ...] = ()
    train_cut: int = 0
    dev_cut: int = 0
    has_made_dev: bool = False
    zeros: str | None = None
    training: TaskSchedule | None = None
    standard_error: float | None = None
    constant_answer: str | float | None = None
    constant_score: float | None = None
    untrained: str | None = None
    beside: list[KnownRun] = field(default_factory=list)
    rate_search: RateSearch | None = None
    patience: int | None = None
    selected_on: str | None = None
    epochs_done: list[int] = field(default_factory=list)
    reported_epochs: list[int] = field(default_factory=list)

    @property
    def stopped_early(self) -> list[bool]:
        """Whether patience ended each seed before its last epoch."""
        return [done < self.epochs for done in self.epochs_done]

    @property
    def untrained_line(self) -> str | None:
        """What to say of seeds that learnt nothing, and what to do."""
        advice = ADVICE_BESIDES if self.rate_search else ADVICE
        return self.untrained and f"{self.untrained}; {advice}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = {
            "checkpoint": list(map(str, self.checkpoint)),
            "run_folder": str(self.run_folder),
            "notes": list(self.notes),
            "stopped_early": self.stopped_early,
        }
        return asdict(self) | plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FinetuneResult:
        """Return the result that `to_dict` wrote."""
        changed = {
            "metrics": {name: Scores(**metric) for name, metric in values["metrics"].items()},
            "checkpoint": list(map(Path, values["checkpoint"])),
            "run_folder": Path(values["run_folder"]),
            "notes": tuple(values.get("notes", ())),
            "training": TaskSchedule(**values["training"]),
            "beside": [KnownRun(**run) for run in values.get("beside", ())],
            "rate_search": RateSearch.from_dict(values.get("rate_search")),
        }
        known = {name: value for name, value in values.items() if name != "stopped_early"}
        return cls(**(known | changed))


class FinetuneWatcher(Protocol):
    """Who wants to know how fine-tuning is going."""

    def status(self, message: str) -> None:
        """Be told what is being done now, where it may take long."""

    def note(self, message: str) -> None:
        """Be told a line that a person should know."""

    def finetune_plan(self, plan: FinetunePlan) -> None:
        """Be told what will be done."""

    def progress(self, report: StepReport) -> None:
        """Be told of a step."""


@watched(default_watcher)
def finetune(
    config: FinetuneConfig,
    *,
    output_dir: Path | str | None = None,
    force: bool = False,
    watcher: FinetuneWatcher | None = None,
) -> FinetuneResult:
    """Fine-tune a ticket or a dense model on a task, and score it (TAMT, §4.1).

    A run that was interrupted goes on with the first seed that is not complete, from its last
    checkpoint.

    Args:
        config: What to fine-tune on what.
        output_dir: The run's folder; by default one under ``runs/``.
        force: Redo a finished run.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The request, the model, the ticket or the data are refused, or the loss
            became NaN.
    """
    watcher = watcher or Silent()
    config, _ = with_default_ticket(config)
    start = world().in_turn(lambda: StartingPoint.of(config))
    watcher.status(f"finding the data of {config.task}")
    data = world().in_turn(lambda: _open_data(config))
    watcher.status(f"reading {data.name}")
    read = world().in_turn(lambda: _Read.of(config, data))
    training = schedule_for(data.task, start.width, len(read.train), config.wishes)
    run = world().on_first(lambda: _run_folder(config, start, data, training, output_dir))
    earlier_result = partial(_earlier_result, run, force=force)
    if done := world().on_first(earlier_result):
        return done
    prepared = world().in_turn(
        lambda: _Finetuning.prepare(config, start, data, read, training, run, watcher)
    )
    with ExitStack() as locks:
        world().on_first(lambda: locks.enter_context(run.locked()))
        locks.enter_context(promising(KEPT))
        if done := world().on_first(earlier_result):  # while this process was loading
            return done
        world().on_first(lambda: _start_run(run, force=force))
        return prepared.run_all(watcher)


def _earlier_result(run: RunFolder, *, force: bool) -> FinetuneResult | None:
    """Return what a finished run of this configuration came to, if its checkpoints are there."""
    values = run.finished(force=force)
    if values is None:
        return None
    try:
        done = FinetuneResult.from_dict(values)
    except (TypeError, KeyError, AttributeError) as error:  # or fields of another version
        raise DamagedRunError(
            f"{str(run.path / RESULT)!r} is damaged; --force does the run again"
        ) from error
    folders = [_seed_folder(run, seed) for seed in done.seeds]
    for folder in folders:
        if not (folder / SEED_METRICS).is_file():
            raise DamagedRunError(
                f"the finished run in {str(run.path)!r} has lost {str(folder)!r}; "
                "--force does it again"
            )
    found = replace(done, checkpoint=folders, run_folder=run.path, already_done=True)
    return replace(found, beside=beside_checkpoint(folders[0], found.metric, found.seeds))


def _seed_folder(run: RunFolder, seed: int) -> Path:
    return run.path / f"seed-{seed}"


def _seed_facts(folder: Path) -> dict[str, Any] | None:
    """Return what the folder of a seed says of it, None if it is not complete."""
    file = folder / SEED_METRICS
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        names = (
            "scores", "seconds", "standard_errors", "finding", "epochs_done", "reported_epoch",
        )  # fmt: skip
        return {name: facts[name] for name in names}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedRunError(
            f"{str(file)!r} is damaged; remove {str(folder)!r} and run the same command again"
        ) from error


def _open_data(config: FinetuneConfig) -> TaskData:
    if config.train:
        return open_own_task(
            config.task,
            expanded(config.train),
            expanded(config.dev) if config.dev else None,
            text_columns=config.text_columns,
            label_column=config.label_column,
            kind=config.label_kind,
        )
    return open_task(find_task(config.task), Path(config.data_dir) if config.data_dir else None)


def _run_folder(
    config: FinetuneConfig,
    start: StartingPoint,
    data: TaskData,
    training: TaskSchedule,
    output_dir: Path | str | None,
) -> RunFolder:
    told = config.to_dict() | {"ticket_sha256": start.digest, "data_sha256": data.digest}
    text = json.dumps(told | training.identity, sort_keys=True)
    about = f"{config.task}-{folder_name(start.short_name)}"
    name = f"{about}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    identity = finetune_identity(start.model, start.revision, config.ticket, data.identity)
    identity |= training.identity
    return RunFolder(expanded(output_dir or RUNS / f"finetune-{name}"), told, identity)


def _make_room(unfinished: Path, folder: Path) -> None:
    """Prepare for a seed that is not complete, which may go on from a checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.mkdir(exist_ok=True)


def _start_run(run: RunFolder, *, force: bool) -> None:
    """Create the run's folder; one that holds an unfinished run keeps the seeds that are done."""
    if force or not (run.path / CONFIG).exists():
        for seed in itertools.chain(run.path.glob("seed-*"), run.path.glob(".seed-*")):
            shutil.rmtree(seed)
        Trials.forget(run.path)
        run.start()


def _with_values(task: Task, config: FinetuneConfig, training: TaskSchedule) -> Task:
    """Return the task with the values that will be used."""
    return replace(
        task,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        epochs=training.epochs,
        max_length=config.max_length or task.max_length,
    )


@dataclass(frozen=True)
class _Read:
    """The examples of a run.

    Attributes:
        train: To train on.
        dev: To score on, by suffix.
        notes: What is to be said of them.
        held_out: Of the training set, to stop by or to find the rate on; None if that is not asked.
        apart: What is left of the training set without these.
    """

    train: Examples
    dev: dict[str, Examples]
    notes: list[str]
    held_out: Examples | None
    apart: Examples

    @classmethod
    def of(cls, config: FinetuneConfig, data: TaskData) -> _Read:
        """Read them; where there is but a training set, part of it is the dev set."""
        train_set, notes, task = data.train(), [], data.task
        if not data.has_no_dev:
            dev_sets = data.dev()
        else:
            split = DevSplit.of(task, train_set, name=data.name, advice="give a --dev file")
            data.check_metric(split.held_out)
            notes.append(
                f"there is no --dev: {len(split.held_out):,} of the {len(train_set):,} examples of "
                f"{data.name} are held out to score on, and not trained on"
            )
            train_set, dev_sets = split.rest, {"": split.held_out}
        if config.limit:
            train_set = train_set.subset(config.limit, of_each=kind_of(task).class_of)
        if not (config.stops_on_held_out or config.find_learning_rate):
            return cls(train_set, dev_sets, notes, None, train_set)
        option = "--patience" if config.stops_on_held_out else "--find-learning-rate"
        name, advice = f"the training set of {task.name}", f"leave out {option}, or give more"
        split = DevSplit.of(task, train_set, name=name, advice=advice)
        use = "to stop by" if config.stops_on_held_out else "to find the learning rate on"
        notes.append(
            f"{len(split.held_out):,} of the {len(train_set):,} training examples are held out, "
            f"{use} ({option})"
        )
        trained = split.rest if config.stops_on_held_out else train_set
        return cls(trained, dev_sets, notes, split.held_out, split.rest)


@dataclass(frozen=True, kw_only=True)
class _Finetuning:
    """Everything the seeds share, loaded and checked."""

    config: FinetuneConfig
    start: StartingPoint
    task: Task
    run: RunFolder
    compute: Compute
    tokenizer: PreTrainedTokenizerFast  # as it was loaded: using one changes what it saves
    pipeline: PipelineFiles  # of the base model, as far as they hold of a new head
    train_set: Examples
    dev: ScoredSets
    held_out: ScoredSets | None  # of the training set
    scale: LabelScale | None  # in which the labels are trained on
    schedule: Schedule
    apart: Features  # of the training set without what is held out
    splits: dict[str, Examples]
    plan: FinetunePlan
    constant: ConstantAnswer
    facts: dict[str, Any]  # for each seed's metrics.json

    @classmethod
    def prepare(
        cls,
        config: FinetuneConfig,
        start: StartingPoint,
        data: TaskData,
        read: _Read,
        training: TaskSchedule,
        run: RunFolder,
        watcher: FinetuneWatcher,
    ) -> _Finetuning:
        """Load the data and the model, and check that all fits, before anything is written."""
        compute = Compute.choose(config.device, config.precision, config.threads)
        task = _with_values(data.task, config, training)
        world().check_batch(task.batch_size)
        train_set, dev_sets = read.train, read.dev
        kind = kind_of(task)
        is_scaled = training.has_standard_labels or task.name not in TASKS
        scale = kind.scale_of(train_set.labels) if is_scaled else None
        notes = [*read.notes, *data.notes, *_label_notes(data, task, train_set, dev_sets)]
        watcher.status(f"loading model {start.model}")
        tokenizer = load_tokenizer(start.model, start.revision)
        pipeline = PipelineFiles.of_a_part(start.model, start.revision)
        notes += filter(None, [pipeline.left_out])
        model, pruned = start.load(task, config.seeds[0], scale=scale, note=notes.append)
        unused_tokenizer = copy.deepcopy(tokenizer)
        inputs = TextInputs.of(model, tokenizer, task.max_length, config.max_length)
        watcher.status(f"tokenising {data.name}")
        features = kind.encode(inputs, train_set).features
        dev = ScoredSets.of(task, inputs, compute, dev_sets)
        # The metrics of what is held out are called as those of the first dev set.
        judges = {next(iter(dev_sets)): read.held_out} if read.held_out else {}
        held_out = ScoredSets.of(task, inputs, compute, judges) if judges else None
        is_whole = read.apart is train_set
        apart = features if is_whole else kind.encode(inputs, read.apart).features
        notes += cut_notes(
            task, [features, *dev.features], inputs.limits, "--max-length {} reads more"
        )
        if scale:
            for one in {id(features): features, id(apart): apart}.values():
                one.labels = scale.standardised(one.labels)
        steps = task.epochs * math.ceil(len(features) / task.batch_size)
        plan = FinetunePlan(
            task=task,
            training=training,
            model=start.model,
            ticket=config.ticket,
            sparsity=_sparsity(pruned),
            zeros=what_becomes_of_zeros(model, bool(pruned)),
            data=data.name,
            train_examples=len(train_set),
            dev_examples=len(dev),
            max_length=inputs.max_length,
            epochs=task.epochs,
            steps=steps,
            seeds=config.seeds,
            select=config.select,
            compute=compute,
            run_folder=run.path,
            labels=kind.label_summary(train_set),
            notes=tuple(notes),
            train_cut=features.cut,
            dev_cut=sum(features.cut for features in dev.features),
            has_made_dev=data.has_no_dev,
            rates=rates_around(task.learning_rate) if config.find_learning_rate else (),
            patience=config.patience,
        )
        described = start.describe(model)
        splits = {"train": train_set} | {task.dev_splits[s]: e for s, e in dev_sets.items()}
        splits |= {"held_out": read.held_out} if read.held_out else {}
        constant = ConstantAnswer.of(task, train_set)
        facts = _facts(run, described, plan, splits) | {
            "labels": scale and asdict(scale),
            "constant": asdict(constant)
            | {"scores": constant.metrics(task, dev_sets), "loss": kind.constant_loss(features)},
        }
        return cls(
            config=config,
            start=start,
            task=task,
            run=run,
            compute=compute,
            tokenizer=unused_tokenizer,
            pipeline=pipeline,
            train_set=train_set,
            dev=dev,
            held_out=held_out,
            apart=apart,
            splits=splits,
            scale=scale,
            schedule=Schedule(
                task=task,
                features=features,
                steps=steps,
                warm_up_steps=training.warm_up_steps(steps),
                compute=compute,
                select_best=config.select == "best" or config.patience is not None,
                patience=config.patience,
                checkpoint_every=config.checkpoint_every,
            ),
            plan=plan,
            constant=constant,
            facts=facts,
        ).with_setting()

    def with_setting(self) -> _Finetuning:
        """Return the same with a digest of its setting among the facts."""
        plan, precision = self.plan, self.compute.precision
        splits = {name: e for name, e in self.splits.items() if name != "held_out"}
        setting = setting_of(
            self.config, self.task, plan.training, plan.max_length, precision, splits,
            self.run.identity,
        )  # fmt: skip
        return replace(self, facts=self.facts | {SETTING: setting})

    def with_rate(self, found: RateSearch) -> _Finetuning:
        """Return the same with the learning rate that was found."""
        rate, before = found.learning_rate, self.plan.training
        task = replace(self.task, learning_rate=rate)
        origin = f"learning rate found, {before.origin}"
        training = replace(before, learning_rate=rate, origin=origin)
        facts = self.facts | {
            "task": self.facts["task"] | {"learning_rate": rate},
            "training": asdict(training),
            "rate_search": asdict(found),
        }
        return replace(
            self,
            task=task,
            schedule=replace(self.schedule, task=task),
            plan=replace(self.plan, task=task, training=training),
            facts=facts,
        ).with_setting()

    def run_all(self, watcher: FinetuneWatcher) -> FinetuneResult:
        """Run the seeds that are not complete yet, and put all together."""
        folders = {seed: _seed_folder(self.run, seed) for seed in self.config.seeds}
        open_seeds = world().on_first(
            lambda: [seed for seed, folder in folders.items() if _seed_facts(folder) is None]
        )
        if self.plan.has_made_dev:  # for whoever evaluates a checkpoint of the run
            world().on_first(self._save_dev)
        watcher.finetune_plan(self.plan)
        for line in self.plan.notes:
            watcher.note(line)
        this = self.with_rate(self._find_rate(watcher)) if self.plan.rates else self
        for seed in open_seeds:
            watcher.status(f"seed {seed}")
            with random_numbers:  # the head and dropout draw from them
                this._run_seed(seed, folders[seed], watcher)
        return world().on_first(lambda: this._result(folders, len(folders) - len(open_seeds)))

    def _find_rate(self, watcher: FinetuneWatcher) -> RateSearch:
        """Try the rates that have not been tried yet, and choose one."""
        assert self.held_out is not None
        trials = Trials(self.run.path, self.task, self.held_out)
        steps = trial_steps(self.task, len(self.apart), self.plan.steps)
        for rate in self.plan.rates:
            if world().on_first(partial(trials.knows, rate)):
                continue
            watcher.status(f"trying learning rate {rate:g}")
            with random_numbers:
                score = self._try_rate(trials, rate, steps, watcher)
            watcher.note(f"learning rate {rate:g}: {score}")
        usual, sizes = self.task.learning_rate, (len(self.held_out), steps)
        found = world().on_first(lambda: trials.choose(self.plan.rates, usual, *sizes))
        for line in (f"learning rate {found.learning_rate:g} is taken", *found.remarks):
            watcher.note(line)
        return found

    def _try_rate(self, trials: Trials, rate: float, steps: int, watcher: FinetuneWatcher) -> str:
        """Train with a rate, and write down what it scores on what is held out."""
        seed, held_out, folder = self.config.seeds[0], self.held_out, trials.folder(rate)
        assert held_out is not None
        schedule = replace(
            self.schedule,
            task=replace(self.task, learning_rate=rate),
            features=self.apart,
            steps=steps,
            warm_up_steps=self.plan.training.warm_up_steps(steps),
            select_best=False,
            patience=None,
        )
        seed_run, checkpoints = self._loaded(seed, schedule, folder, lambda _: {})
        world().on_first(lambda: folder.mkdir(exist_ok=True))
        seed_run.resume(checkpoints, watcher.note)
        try:
            seed_run.train(folder, checkpoints, watcher.progress, watcher.note)
            said = world().on_first(lambda: held_out.predict(seed_run.model, self.scale))
        except DivergedError:  # with a rate that is too high, which is an answer, too
            said = None
        return world().on_first(lambda: trials.write(rate, said))

    @property
    def _selected_on(self) -> str | None:
        """What the reported epoch is the best on; None where it is the last."""
        if self.config.select == "best":
            return "the dev set"
        if self.held_out and self.config.stops_on_held_out:
            return f"{len(self.held_out):,} held-out training examples"
        return None

    def _save_dev(self) -> None:
        (examples,) = self.dev.sets.values()
        save_examples(self.run.path / DEV_FILE, self.task, examples)

    def _result(self, folders: Mapping[int, Path], done_before: int) -> FinetuneResult:
        """Put the seeds together and write that the run is finished."""
        found = [facts for folder in folders.values() if (facts := _seed_facts(folder))]
        metrics = {
            name: Scores.of(
                [seed["scores"][name] for seed in found],
                [seed["standard_errors"][name] for seed in found],
                constant,
            )
            for name, constant in self.facts["constant"]["scores"].items()
        }
        metric = self.task.primary_metric
        primary = metrics[metric]
        findings = [seed["finding"] and Finding(**seed["finding"]) for seed in found]
        result = FinetuneResult(
            task=self.task.name,
            metric=metric,
            scores=primary.scores,
            mean=primary.mean,
            std=primary.std,
            metrics=metrics,
            dev_selected=self.config.select == "best",
            seeds=list(self.config.seeds),
            sparsity=self.plan.sparsity,
            zeros=self.plan.zeros,
            model=self.plan.model,
            ticket=self.config.ticket,
            train_examples=self.plan.train_examples,
            dev_examples=self.plan.dev_examples,
            epochs=self.plan.epochs,
            steps=self.plan.steps,
            seconds=[seed["seconds"] for seed in found],
            checkpoint=list(folders.values()),
            run_folder=self.run.path,
            resumed_from=done_before,
            labels=self.plan.labels,
            notes=self.plan.notes,
            train_cut=self.plan.train_cut,
            dev_cut=self.plan.dev_cut,
            has_made_dev=self.plan.has_made_dev,
            training=self.plan.training,
            standard_error=primary.standard_error,
            constant_answer=self.constant.value,
            constant_score=primary.constant,
            untrained=sentence(list(zip(self.config.seeds, findings, strict=True))),
            rate_search=RateSearch.from_dict(self.facts.get("rate_search")),
            patience=self.config.patience,
            selected_on=self._selected_on,
            epochs_done=[seed["epochs_done"] for seed in found],
            reported_epochs=[seed["reported_epoch"] or seed["epochs_done"] for seed in found],
        )
        self.run.finish(result.to_dict())
        # Not written down, since such runs come and go.
        beside = beside_checkpoint(result.checkpoint[0], metric, result.seeds)
        return replace(result, beside=beside)

    def _run_seed(self, seed: int, folder: Path, watcher: FinetuneWatcher) -> None:
        """Fine-tune, score and save one seed; its folder appears whole or not at all."""
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        judge = self.held_out if self.held_out and self.config.stops_on_held_out else self.dev
        seed_run, checkpoints = self._loaded(
            seed,
            self.schedule,
            unfinished,
            lambda model: judge.metrics(judge.predict(model, self.scale)),
        )
        world().on_first(lambda: _make_room(unfinished, folder))
        seed_run.resume(checkpoints, watcher.note)
        seed_run.train(unfinished, checkpoints, watcher.progress, watcher.note)
        world().on_first(lambda: self._save_seed(seed, seed_run, unfinished, watcher))
        world().on_first(checkpoints.remove)
        world().on_first(lambda: unfinished.replace(folder))

    def _loaded(
        self,
        seed: int,
        schedule: Schedule,
        folder: Path,
        score: Callable[[PreTrainedModel], dict[str, float]],
    ) -> tuple[SeedRun, Checkpoints]:
        """Load the model to train, and find where in a folder its checkpoints are."""
        model, pruned = world().in_turn(lambda: self.start.load(self.task, seed, scale=self.scale))
        cast(nn.Module, model).to(self.compute.device)
        checkpoints = Checkpoints(
            folder / CHECKPOINTS, self.run.identity, self.compute.circumstances
        )
        return SeedRun(schedule, model, pruned, seed, score), checkpoints

    def _save_seed(
        self, seed: int, seed_run: SeedRun, folder: Path, watcher: FinetuneWatcher
    ) -> None:
        watcher.status(f"scoring seed {seed}")
        seed_run.select()
        if self.scale:
            self.scale.fold_into(seed_run.model)
        found = self.dev.predict(seed_run.model)
        seed_run.model.config.__dict__.pop(HEAD_SETTINGS, None)  # the head is another now
        save_model(seed_run.model, self.tokenizer, folder)
        self.pipeline.write(folder)
        self._save_predictions(folder / PREDICTIONS, found)
        scores, errors = self.dev.metrics(found), self.dev.standard_errors(found)
        loss = None if seed_run.smooth_loss is None else float(seed_run.smooth_loss)
        finding = self._finding(found, scores, errors, loss)
        made = {"dev": str(self.run.path / DEV_FILE)} if self.plan.has_made_dev else {}
        facts = self.facts | {
            "seed": seed,
            "files": self.facts["files"] | places_of(made, folder),
            "scores": scores,
            "standard_errors": errors,
            "training_loss": loss,
            "finding": finding and asdict(finding),
            "beside": [asdict(run) for run in self._beside(seed)],
            "dev_selected": self.config.select == "best",
            "epoch_scores": seed_run.epoch_metrics,
            "selected_on": self._selected_on,
            "reported_epoch": seed_run.best_epoch,
            "epochs_done": seed_run.steps_done * self.task.epochs // self.plan.steps,
            "steps": seed_run.steps_done,
            "seconds": seed_run.seconds,
        }
        write_json(folder / SEED_METRICS, facts)

    def _finding(
        self,
        found: Mapping[str, Predictions],
        scores: Mapping[str, float],
        errors: Mapping[str, float | None],
        loss: float | None,
    ) -> Finding | None:
        """Return what is wrong with a seed, the plainest sign first."""
        suffix, metric = next(iter(self.dev.sets)), self.task.primary_metric
        constant = self.facts["constant"]
        return (
            same_answer(self.task, found[suffix].values, self.dev.sets[suffix])
            or loss_hardly_moved(loss, constant["loss"])
            or no_better(
                primary_metric(self.task),
                metric,
                scores[metric],
                errors[metric],
                self.constant,
                constant["scores"][metric],
            )
        )

    def _beside(self, seed: int) -> list[KnownRun]:
        """Return what the dense model, or tickets, have come to in this setting."""
        is_dense, metric = self.start.ticket is None, self.task.primary_metric
        return runs_beside(self.facts[SETTING], metric, [seed], is_dense=is_dense)

    def _save_predictions(self, path: Path, found: Mapping[str, Predictions]) -> None:
        with path.open("w", encoding="utf-8") as file:
            for suffix, predictions in found.items():
                split = self.task.dev_splits[suffix]
                for row in prediction_rows(self.task, predictions, self.dev.sets[suffix]):
                    file.write(json.dumps({"split": split} | row) + "\n")


def _label_notes(
    data: TaskData, task: Task, train_set: Examples, dev_sets: Mapping[str, Examples]
) -> list[str]:
    """Return notes on the labels, and on texts to train on that are dev texts, too."""
    splits = {"training": train_set} | {f"dev{suffix}": e for suffix, e in dev_sets.items()}
    notes: list[str] = []
    kind = kind_of(task)
    if data.labels:
        notes += kind.own_label_notes(data.labels, is_guessed=data.has_guessed_kind)
    for where, examples in splits.items():
        notes += kind.label_notes(examples, where)
    for examples in dev_sets.values():
        notes += overlap_note(train_set, examples)
    return notes


def prediction_rows(
    task: Task, predictions: Predictions, examples: Examples
) -> list[dict[str, Any]]:
    """Return one JSON object per example: what was predicted, and what was to be."""
    kind = kind_of(task)
    rows = zip(
        examples.ids, predictions.values, predictions.confidences, examples.labels, strict=True
    )
    return [
        {
            "id": name,
            "prediction": kind.prediction_to_json(value),
            "confidence": kind.confidence_to_json(confidence),
            "label": kind.label_to_json(label),
        }
        for name, value, confidence, label in rows
    ]


def _facts(
    run: RunFolder, start: Mapping[str, Any], plan: FinetunePlan, splits: Mapping[str, Examples]
) -> dict[str, Any]:
    """Return what every seed's ``metrics.json`` says of how it came about."""
    paths = {"data_dir": run.config["data_dir"], "dev": run.config["dev"]}
    if plan.model != "nano":  # whatever is called so here, that is the embedded one
        paths["model"] = plan.model
    return {
        "config": run.config,
        # The configuration has them as they were given, since it is the run's identity.
        "files": places_of(paths, _seed_folder(run, plan.seeds[0])),
        "environment": environment(),
        **start,
        "sparsity": plan.sparsity,
        "zeros": plan.zeros,
        "data": {"source": plan.data}
        | {name: {"examples": len(e), "sha256": e.sha256} for name, e in splits.items()},
        "task": asdict(plan.task) | {"max_length": plan.max_length},
        "training": asdict(plan.training),
        "device": plan.compute.device.type,
        "precision": plan.compute.precision,
    }


def _sparsity(pruned: Mapping[str, Tensor]) -> float:
    total = sum(mask.numel() for mask in pruned.values())
    return sum(int(mask.sum()) for mask in pruned.values()) / total if total else 0.0
