"""What the seeds of a run share, loaded and checked before anything is written."""

from __future__ import annotations

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
from tamtctl.models.pipeline_files import PipelineFiles
from tamtctl.tasks.constant_answer import ConstantAnswer
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.first_model import FirstModel
from tamtctl.tasks.finetuning.known_runs import SETTING, setting_of
from tamtctl.tasks.finetuning.measured_sets import MeasuredSets
from tamtctl.tasks.finetuning.own_zeros import what_becomes_of_zeros
from tamtctl.tasks.finetuning.rate_search import RateSearch, rates_around, trial_steps
from tamtctl.tasks.finetuning.requested_run import RequestedRun
from tamtctl.tasks.finetuning.result import FinetunePlan, FinetuneWatcher
from tamtctl.tasks.finetuning.run_examples import label_notes
from tamtctl.tasks.finetuning.schedule import TaskSchedule
from tamtctl.tasks.finetuning.seed_folder import seed_folder
from tamtctl.tasks.finetuning.seed_run import Schedule, SeedRun
from tamtctl.tasks.finetuning.sparse_adam import SparseTraining
from tamtctl.tasks.finetuning.starting_point import StartingPoint
from tamtctl.tasks.finetuning.tokenised import Tokenised
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.labelled.notes import cut_notes
from tamtctl.tasks.registry import TASKS
from tamtctl.tasks.run_facts import places_of
from tamtctl.tasks.task import Task
from tamtctl.training.checkpoints import Checkpoints
from tamtctl.training.run_folder import CHECKPOINTS, RunFolder
from tamtctl.training.step_timing import seconds_per_step

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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the seeds of a run share, loaded and checked."""

    config: FinetuneConfig
    start: StartingPoint
    task: Task
    run: RunFolder
    compute: Compute
    tokenizer: PreTrainedTokenizerFast  # unused so far
    pipeline: PipelineFiles
    dev: MeasuredSets
    held_out: MeasuredSets | None  # of the training set
    scale: LabelScale | None  # of the labels in training
    schedule: Schedule
    apart: Features  # of the training set without what is held out
    splits: dict[str, Examples]
    plan: FinetunePlan
    constant: ConstantAnswer
    facts: dict[str, Any]  # for each seed's metrics.json
    unused: list[LoadedModel]  # already loaded, for the seed that begins with it

    @classmethod
    def of(cls, asked: RequestedRun, watcher: FinetuneWatcher) -> Prepared:
        """Load the model, and check that all fits, before anything is written."""
        config, start, read, training = asked.config, asked.start, asked.read, asked.training
        compute = Compute.choose(config.device, config.precision, config.threads)
        task = _with_values(asked)
        world().check_batch(task.batch_size)
        is_scaled = training.has_standard_labels or task.name not in TASKS
        scale = kind_of(task).scale_of(read.train.labels) if is_scaled else None
        watcher.status(f"loading model {start.model}")
        first = FirstModel.of(config, start, task, scale)
        watcher.status(f"tokenising {asked.data.name}")
        tokenised = Tokenised.of(task, first.inputs, compute, read)
        if scale:
            tokenised.standardise(scale)
        plan = _plan(asked, task, compute, first, tokenised)
        splits = {"train": read.train} | {task.dev_splits[s]: e for s, e in read.dev.items()}
        splits |= {"held_out": read.held_out} if read.held_out else {}
        constant = ConstantAnswer.of(task, read.train)
        facts = _facts(asked.run, start.describe(first.model), plan, splits) | {
            "labels": scale and asdict(scale),
            "constant": asdict(constant)
            | {
                "scores": constant.metrics(task, read.dev),
                "loss": kind_of(task).constant_loss(tokenised.features),
            },
        }
        return cls(
            config=config,
            start=start,
            task=task,
            run=asked.run,
            compute=compute,
            tokenizer=first.tokenizer,
            pipeline=first.pipeline,
            dev=tokenised.dev,
            held_out=tokenised.held_out,
            apart=tokenised.apart,
            splits=splits,
            scale=scale,
            schedule=_schedule(config, task, training, plan, compute, tokenised.features),
            plan=plan,
            constant=constant,
            facts=facts,
            unused=[LoadedModel(config.seeds[0], first.model, first.pruned)],
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


def _with_values(asked: RequestedRun) -> Task:
    """Return the task with the values that will be used."""
    task, training = asked.data.task, asked.training
    return replace(
        task,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        epochs=training.epochs,
        max_length=asked.config.max_length or task.max_length,
    )


def _plan(
    asked: RequestedRun, task: Task, compute: Compute, first: FirstModel, tokenised: Tokenised
) -> FinetunePlan:
    """Return what is shown before the work."""
    config, data, read = asked.config, asked.data, asked.read
    features, dev = tokenised.features, tokenised.dev
    parts, more = [features, *dev.features], "--max-length {} reads more"
    return FinetunePlan(
        task=task,
        training=asked.training,
        model=asked.start.model,
        ticket=config.ticket,
        sparsity=_sparsity(first.pruned),
        zeros=what_becomes_of_zeros(first.model, bool(first.pruned)),
        data=data.name,
        train_examples=len(read.train),
        dev_examples=len(dev),
        max_length=first.inputs.max_length,
        epochs=task.epochs,
        steps=task.epochs * math.ceil(len(features) / task.batch_size),
        seeds=config.seeds,
        select=config.select,
        compute=compute,
        run_folder=asked.run.path,
        labels=kind_of(task).label_summary(read.train),
        notes=(
            *read.notes,
            *data.notes,
            *label_notes(data, task, read.train, read.dev),
            *first.notes,
            *cut_notes(task, parts, first.inputs.limits, more),
        ),
        train_cut=features.cut,
        dev_cut=sum(one.cut for one in dev.features),
        has_made_dev=data.has_no_dev,
        rates=rates_around(task.learning_rate) if config.find_learning_rate else (),
        patience=config.patience,
    )


def _schedule(
    config: FinetuneConfig,
    task: Task,
    training: TaskSchedule,
    plan: FinetunePlan,
    compute: Compute,
    features: Features,
) -> Schedule:
    return Schedule(
        task=task,
        features=features,
        steps=plan.steps,
        warm_up_steps=training.warm_up_steps(plan.steps),
        compute=compute,
        select_best=config.select == "best" or config.patience is not None,
        patience=config.patience,
        checkpoint_every=config.checkpoint_every,
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
