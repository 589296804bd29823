"""Fine-tuning a ticket on a task, seed by seed (TAMT, §4.1).

The mask is applied to the pre-trained weights. The weights that it keeps are trained, and so are
all parameters that it does not cover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.one_at_a_time import random_state_lock
from tamtctl.models.loading import save_model
from tamtctl.models.pipeline_files import HEAD_SETTINGS
from tamtctl.tasks.finetuning.known_runs import (
    SETTING,
    KnownRun,
    beside_checkpoint,
    runs_beside,
)
from tamtctl.tasks.finetuning.learnt_nothing import (
    Finding,
    loss_hardly_moved,
    no_better,
    plainest,
    sentence,
)
from tamtctl.tasks.finetuning.preparing import Prepared
from tamtctl.tasks.finetuning.rate_search import RateSearch, Trials
from tamtctl.tasks.finetuning.result import FinetuneResult, FinetuneWatcher, MetricOverSeeds
from tamtctl.tasks.finetuning.seed_folder import (
    make_room,
    put_in_its_place,
    save_predictions,
    seed_facts,
    seed_folder,
)
from tamtctl.tasks.finetuning.seed_run import SeedRun
from tamtctl.tasks.kinds.base import Predictions
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.table import primary_metric
from tamtctl.tasks.labelled.dev_split import DEV_FILE, save_examples
from tamtctl.tasks.run_facts import SEED_METRICS, places_of
from tamtctl.training.run_folder import write_json
from tamtctl.training.run_log import Logging


def run_all(prepared: Prepared, watcher: FinetuneWatcher) -> FinetuneResult:
    """Train the seeds that are not complete yet, and return the result of all."""
    folders = {seed: seed_folder(prepared.run, seed) for seed in prepared.config.seeds}
    open_seeds = world().on_first(
        lambda: [seed for seed, folder in folders.items() if seed_facts(folder) is None]
    )
    if prepared.plan.has_made_dev:  # so that evaluate finds the examples later
        world().on_first(partial(_save_dev, prepared))
    watcher.plan(prepared.plan)
    for line in prepared.plan.notes:
        watcher.note(line)
    this = prepared.with_rate(_find_rate(prepared, watcher)) if prepared.plan.rates else prepared
    for seed in open_seeds:
        watcher.status(f"seed {seed}")
        with random_state_lock:  # the head and dropout use them
            _run_seed(this, seed, folders[seed], watcher)
    return world().on_first(lambda: _result(this, folders, len(folders) - len(open_seeds)))


def _find_rate(prepared: Prepared, watcher: FinetuneWatcher) -> RateSearch:
    """Try the rates that have not been tried yet, and choose the best."""
    assert prepared.held_out is not None
    trials = Trials(prepared.run.path, prepared.task, prepared.held_out)
    steps = prepared.trial_steps
    for rate in prepared.plan.rates:
        if world().on_first(partial(trials.knows, rate)):
            continue
        watcher.status(f"trying learning rate {rate:g}")
        with random_state_lock:
            said = _try_rate(prepared, trials, rate, steps, watcher)
        watcher.note(f"learning rate {rate:g}: {said}")
    usual, sizes = prepared.task.learning_rate, (len(prepared.held_out), steps)
    found = world().on_first(lambda: trials.choose(prepared.plan.rates, usual, *sizes))
    for line in (f"learning rate {found.learning_rate:g} is taken", *found.remarks):
        watcher.note(line)
    return found


def _try_rate(
    prepared: Prepared, trials: Trials, rate: float, steps: int, watcher: FinetuneWatcher
) -> str:
    """Train with a rate, store its score on the held-out examples, and return it in words."""
    seed, held_out, folder = prepared.config.seeds[0], prepared.held_out, trials.folder(rate)
    assert held_out is not None
    schedule = replace(
        prepared.schedule,
        task=replace(prepared.task, learning_rate=rate),
        features=prepared.apart,
        steps=steps,
        warm_up_steps=prepared.plan.training.warm_up_steps(steps),
        select_best=False,
        patience=None,
    )
    seed_run = prepared.loaded(seed, schedule, folder, lambda _: {})
    world().on_first(lambda: folder.mkdir(exist_ok=True))
    seed_run.resume(watcher.note)
    try:
        seed_run.train(folder, watcher.progress, watcher.note, Logging())
        said = world().on_first(lambda: held_out.predict(seed_run.model, prepared.scale))
    except DivergedError:  # the rate is too high, which is a result, too
        said = None
    return world().on_first(lambda: trials.write(rate, said))


def _selected_on(prepared: Prepared) -> str | None:
    """Return the examples on which the reported epoch is the best; None if it is the last."""
    if prepared.config.select == "best":
        return "the dev set"
    if prepared.held_out and prepared.config.stops_on_held_out:
        return f"{len(prepared.held_out):,} held-out training examples"
    return None


def _save_dev(prepared: Prepared) -> None:
    (examples,) = prepared.dev.sets.values()
    save_examples(prepared.run.path / DEV_FILE, prepared.task, examples)


def _result(prepared: Prepared, folders: Mapping[int, Path], done_before: int) -> FinetuneResult:
    """Return the result of all seeds, and mark the run as finished."""
    found = [facts for folder in folders.values() if (facts := seed_facts(folder))]
    metrics = {
        name: MetricOverSeeds.of(
            [seed["scores"][name] for seed in found],
            [seed["standard_errors"][name] for seed in found],
            constant,
        )
        for name, constant in prepared.facts["constant"]["scores"].items()
    }
    metric = prepared.task.primary_metric
    primary = metrics[metric]
    findings = [seed["finding"] and Finding(**seed["finding"]) for seed in found]
    result = FinetuneResult(
        task=prepared.task.name,
        metric=metric,
        scores=primary.scores,
        mean=primary.mean,
        std=primary.std,
        metrics=metrics,
        dev_selected=prepared.config.select == "best",
        seeds=list(prepared.config.seeds),
        sparsity=prepared.plan.sparsity,
        zeros=prepared.plan.zeros,
        model=prepared.plan.model,
        ticket=prepared.config.ticket,
        train_examples=prepared.plan.train_examples,
        dev_examples=prepared.plan.dev_examples,
        epochs=prepared.plan.epochs,
        steps=prepared.plan.steps,
        seconds=[seed["seconds"] for seed in found],
        checkpoint=list(folders.values()),
        run_folder=prepared.run.path,
        resumed_from=done_before,
        labels=prepared.plan.labels,
        notes=prepared.plan.notes,
        train_cut=prepared.plan.train_cut,
        dev_cut=prepared.plan.dev_cut,
        has_made_dev=prepared.plan.has_made_dev,
        training=prepared.plan.training,
        standard_error=primary.standard_error,
        constant_answer=prepared.constant.value,
        constant_score=primary.constant,
        untrained=sentence(list(zip(prepared.config.seeds, findings, strict=True))),
        rate_search=RateSearch.from_dict(prepared.facts.get("rate_search")),
        patience=prepared.config.patience,
        selected_on=_selected_on(prepared),
        epochs_done=[seed["epochs_done"] for seed in found],
        reported_epochs=[seed["reported_epoch"] or seed["epochs_done"] for seed in found],
    )
    prepared.run.finish(result.to_dict())
    # Not stored in the run, as other runs come and go.
    beside = beside_checkpoint(result.checkpoint[0], metric, result.seeds)
    return replace(result, beside=beside)


def _run_seed(prepared: Prepared, seed: int, folder: Path, watcher: FinetuneWatcher) -> None:
    """Fine-tune, measure and save one seed; its folder appears once it is complete."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    world().on_first(lambda: make_room(unfinished, folder))
    if world().on_first(partial(seed_facts, unfinished)) is None:  # else it was killed at the end
        _train_seed(prepared, seed, unfinished, watcher)
    world().on_first(lambda: put_in_its_place(unfinished, folder))


def _train_seed(prepared: Prepared, seed: int, unfinished: Path, watcher: FinetuneWatcher) -> None:
    stops_on_held_out = prepared.held_out and prepared.config.stops_on_held_out
    judge = (stops_on_held_out and prepared.held_out) or prepared.dev
    seed_run = prepared.loaded(
        seed,
        prepared.schedule,
        unfinished,
        lambda model: judge.metrics(judge.predict(model, prepared.scale)),
    )
    seed_run.resume(watcher.note)
    told = prepared.run.config | {"seed": seed}
    logging = Logging(prepared.config.log_to, f"{prepared.run.name}-seed-{seed}", told)
    seed_run.train(unfinished, watcher.progress, watcher.note, logging)
    world().on_first(lambda: _save_seed(prepared, seed, seed_run, unfinished, watcher))


def _save_seed(
    prepared: Prepared, seed: int, seed_run: SeedRun, folder: Path, watcher: FinetuneWatcher
) -> None:
    watcher.status(f"scoring seed {seed}")
    seed_run.select()
    if prepared.scale:
        prepared.scale.fold_into(seed_run.model)
    found = prepared.dev.predict(seed_run.model)
    config = seed_run.model.config
    config.__dict__.pop(HEAD_SETTINGS, None)  # they describe the old head
    config.__dict__.update(kind_of(prepared.task).settings_for_others())
    save_model(seed_run.model, prepared.tokenizer, folder)
    prepared.pipeline.write(folder)
    save_predictions(folder, prepared.task, found, prepared.dev.sets)
    metrics, errors = prepared.dev.metrics(found), prepared.dev.standard_errors(found)
    loss = None if seed_run.smooth_loss is None else float(seed_run.smooth_loss)
    finding = _finding(prepared, found, metrics, errors, loss)
    made = {"dev": str(prepared.run.path / DEV_FILE)} if prepared.plan.has_made_dev else {}
    facts = prepared.facts | {
        "seed": seed,
        "files": prepared.facts["files"] | places_of(made, folder),
        "scores": metrics,
        "standard_errors": errors,
        "training_loss": loss,
        "finding": finding and asdict(finding),
        "beside": [asdict(run) for run in _beside(prepared, seed)],
        "dev_selected": prepared.config.select == "best",
        "epoch_scores": seed_run.epoch_metrics,
        "selected_on": _selected_on(prepared),
        "reported_epoch": seed_run.best_epoch,
        "epochs_done": seed_run.steps_done * prepared.task.epochs // prepared.plan.steps,
        "steps": seed_run.steps_done,
        "seconds": seed_run.seconds,
    }
    write_json(folder / SEED_METRICS, facts)


def _finding(
    prepared: Prepared,
    found: Mapping[str, Predictions],
    metrics: Mapping[str, float],
    errors: Mapping[str, float | None],
    loss: float | None,
) -> Finding | None:
    """Return a sign that a seed learnt nothing, the plainest that there is."""
    suffix, metric = next(iter(prepared.dev.sets)), prepared.task.primary_metric
    constant = prepared.facts["constant"]
    no_gain = no_better(
        primary_metric(prepared.task),
        metric,
        metrics[metric],
        errors[metric],
        prepared.constant,
        constant["scores"][metric],
    )
    examples, still = prepared.dev.sets[suffix], loss_hardly_moved(loss, constant["loss"])
    values = found[suffix].values
    return plainest(prepared.task, values, examples, no_gain, errors[metric], still)


def _beside(prepared: Prepared, seed: int) -> list[KnownRun]:
    """Return finished runs of the same setting with one seed; see `runs_beside`."""
    is_dense, metric = prepared.start.ticket is None, prepared.task.primary_metric
    return runs_beside(prepared.facts[SETTING], metric, [seed], is_dense=is_dense)
