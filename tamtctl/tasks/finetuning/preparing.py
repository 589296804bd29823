"""What the seeds of a run share, loaded and checked before anything is written."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.data.padded_batches import Features, TaskBatch
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.environment import env
from tamtctl.foundations.one_at_a_time import random_numbers
from tamtctl.models.loading import load_tokenizer
from tamtctl.models.pipeline_files import PipelineFiles
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.known_runs import (
    SETTING,
    setting_of,
)
from tamtctl.tasks.finetuning.own_zeros import what_becomes_of_zeros
from tamtctl.tasks.finetuning.rate_search import RateSearch, rates_around, trial_steps
from tamtctl.tasks.finetuning.result import FinetunePlan, FinetuneWatcher
from tamtctl.tasks.finetuning.run_examples import RunExamples, label_notes
from tamtctl.tasks.finetuning.schedule import TaskSchedule
from tamtctl.tasks.finetuning.scored_sets import ScoredSets
from tamtctl.tasks.finetuning.seed_folder import seed_folder
from tamtctl.tasks.finetuning.seed_run import Schedule, SeedRun
from tamtctl.tasks.finetuning.sparse_adam import SparseTraining
from tamtctl.tasks.finetuning.starting_point import StartingPoint
from tamtctl.tasks.kinds.base import kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.labelled.notes import cut_notes
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import TASKS
from tamtctl.tasks.run_facts import places_of
from tamtctl.tasks.task import Task
from tamtctl.training.checkpoints import Checkpoints
from tamtctl.training.pace import seconds_per_step
from tamtctl.training.run_folder import CHECKPOINTS, RunFolder

_TIMED_STEPS = 8  # batches differ in length


@dataclass(frozen=True)
class LoadedModel:
    """A model that a seed begins with.

    Attributes:
        seed: Seed of its head.
        model: The model, with its pruned weights at zero.
        pruned: Name → mask of its pruned weights; True prunes.
    """

    seed: int
    model: PreTrainedModel
    pruned: dict[str, Tensor]


@dataclass(frozen=True)
class _Tokenised:
    """The examples of a run as inputs of the model.

    Attributes:
        features: The training set.
        apart: The training set without the held-out part.
        dev: The sets to measure on.
        held_out: The held-out part of the training set; None if nothing is held out.
    """

    features: Features
    apart: Features
    dev: ScoredSets
    held_out: ScoredSets | None

    @classmethod
    def of(cls, task: Task, inputs: TextInputs, compute: Compute, read: RunExamples) -> _Tokenised:
        """Tokenise the examples of a run."""
        kind = kind_of(task)
        features = kind.encode(inputs, read.train).features
        is_whole = read.apart is read.train
        apart = features if is_whole else kind.encode(inputs, read.apart).features
        dev = ScoredSets.of(task, inputs, compute, read.dev)
        if read.held_out is None:
            return cls(features, apart, dev, None)
        # The held-out part takes the names of metrics from the first dev set.
        sets = {next(iter(read.dev)): read.held_out}
        return cls(features, apart, dev, ScoredSets.of(task, inputs, compute, sets))

    def standardise(self, scale: LabelScale) -> None:
        """Standardise the labels that are trained on, in place."""
        for one in {id(one): one for one in (self.features, self.apart)}.values():
            one.labels = scale.standardised(one.labels)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the seeds of a run share, loaded and checked."""

    config: FinetuneConfig
    start: StartingPoint
    task: Task
    run: RunFolder
    compute: Compute
    tokenizer: PreTrainedTokenizerFast  # kept unused, as using one changes what it saves
    pipeline: PipelineFiles  # of the base model, those that still apply to a new head
    dev: ScoredSets
    held_out: ScoredSets | None  # of the training set
    scale: LabelScale | None  # of the labels in training
    schedule: Schedule
    apart: Features  # of the training set without what is held out
    splits: dict[str, Examples]
    plan: FinetunePlan
    constant: ConstantAnswer
    facts: dict[str, Any]  # for each seed's metrics.json
    unused: list[LoadedModel]  # already loaded, for the seed that begins with it

    @classmethod
    def prepare(
        cls,
        config: FinetuneConfig,
        start: StartingPoint,
        data: TaskData,
        read: RunExamples,
        training: TaskSchedule,
        run: RunFolder,
        watcher: FinetuneWatcher,
    ) -> Prepared:
        """Load the data and the model, and check that all fits, before anything is written."""
        compute = Compute.choose(config.device, config.precision, config.threads)
        task = _with_values(data.task, config, training)
        world().check_batch(task.batch_size)
        train_set, dev_sets = read.train, read.dev
        kind = kind_of(task)
        is_scaled = training.has_standard_labels or task.name not in TASKS
        scale = kind.scale_of(train_set.labels) if is_scaled else None
        notes = [*read.notes, *data.notes, *label_notes(data, task, train_set, dev_sets)]
        watcher.status(f"loading model {start.model}")
        tokenizer = load_tokenizer(start.model, start.revision)
        pipeline = PipelineFiles.of_a_part(start.model, start.revision)
        notes += filter(None, [pipeline.left_out])
        with random_numbers:
            model, pruned = start.load(task, config.seeds[0], scale=scale, note=notes.append)
        unused_tokenizer = copy.deepcopy(tokenizer)
        inputs = TextInputs.of(model, tokenizer, task.max_length, config.max_length)
        watcher.status(f"tokenising {data.name}")
        read_by_model = _Tokenised.of(task, inputs, compute, read)
        dev, features = read_by_model.dev, read_by_model.features
        parts, more = [features, *dev.features], "--max-length {} reads more"
        notes += cut_notes(task, parts, inputs.limits, more)
        if scale:
            read_by_model.standardise(scale)
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
        splits = {"train": train_set} | {task.dev_splits[s]: e for s, e in dev_sets.items()}
        splits |= {"held_out": read.held_out} if read.held_out else {}
        constant = ConstantAnswer.of(task, train_set)
        of_constant = {
            "scores": constant.metrics(task, dev_sets),
            "loss": kind.constant_loss(features),
        }
        facts = _facts(run, start.describe(model), plan, splits) | {
            "labels": scale and asdict(scale),
            "constant": asdict(constant) | of_constant,
        }
        return cls(
            config=config,
            start=start,
            task=task,
            run=run,
            compute=compute,
            tokenizer=unused_tokenizer,
            pipeline=pipeline,
            dev=dev,
            held_out=read_by_model.held_out,
            apart=read_by_model.apart,
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
            unused=[LoadedModel(config.seeds[0], model, pruned)],
        ).with_setting()

    def with_setting(self) -> Prepared:
        """Return a copy whose facts have the digest of its setting."""
        plan, precision = self.plan, self.compute.precision
        splits = {name: e for name, e in self.splits.items() if name != "held_out"}
        setting = setting_of(
            self.config, self.task, plan.training, plan.max_length, precision, splits,
            self.run.identity,
        )  # fmt: skip
        return replace(self, facts=self.facts | {SETTING: setting})

    def with_rate(self, found: RateSearch) -> Prepared:
        """Return a copy with the learning rate that was found."""
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

    @property
    def trial_steps(self) -> int:
        """Optimiser steps with each learning rate that is tried."""
        return trial_steps(self.task, len(self.apart), self.plan.steps)

    def seconds_per_step(self) -> float:
        """Return the mean seconds of a few steps; the model that was loaded is used up by them."""
        first, schedule = self.unused.pop(), self.schedule
        self.compute.place(first.model)
        first.model.train()
        training = SparseTraining(
            first.model, first.pruned, schedule.task.learning_rate, schedule.steps
        )
        kind, compute = kind_of(self.task), self.compute

        def step(batch: TaskBatch) -> None:
            with compute.autocast():
                kind.loss(first.model, batch.to(compute.device)).backward()
            training.step(0)
            compute.synchronize()

        batches = schedule.features.training_batches(schedule.task.batch_size, first.seed)
        return seconds_per_step(batches, step, _TIMED_STEPS)

    def loaded(
        self,
        seed: int,
        schedule: Schedule,
        folder: Path,
        measure: Callable[[PreTrainedModel], dict[str, float]],
    ) -> SeedRun:
        """Return a seed that is ready to train.

        Args:
            seed: The seed.
            schedule: What to train on, and how.
            folder: Where its checkpoints are saved.
            measure: Returns every metric of a model on the set that chooses the best epoch.
        """
        first = self.unused.pop() if self.unused else None
        if first is not None and first.seed == seed:
            model, pruned = first.model, first.pruned
        else:
            del first
            model, pruned = world().in_turn(
                lambda: self.start.load(self.task, seed, scale=self.scale)
            )
        self.compute.place(model)
        checkpoints = Checkpoints(
            folder / CHECKPOINTS, self.run.identity, self.compute.circumstances
        )
        return SeedRun(schedule, model, pruned, seed, checkpoints, measure)


def _with_values(task: Task, config: FinetuneConfig, training: TaskSchedule) -> Task:
    """Return the task with the values that will be used."""
    return replace(
        task,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        epochs=training.epochs,
        max_length=config.max_length or task.max_length,
    )


def _facts(
    run: RunFolder, start: Mapping[str, Any], plan: FinetunePlan, splits: Mapping[str, Examples]
) -> dict[str, Any]:
    """Return what every seed's ``metrics.json`` records of how it was made."""
    paths = {"data_dir": run.config["data_dir"], "dev": run.config["dev"]}
    if plan.model != "nano":  # the packaged model has no path
        paths["model"] = plan.model
    return {
        "config": run.config,
        # The paths in the configuration stay as given, as they identify the run.
        "files": places_of(paths, seed_folder(run, plan.seeds[0])),
        "environment": env(),
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
